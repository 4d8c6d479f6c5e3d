//! How long, and how much, a stream remembers of requests that are to be appended once.

use super::streams::ADMIN_COST;
use super::{Admit, Core};
use crate::clock::Now;
use crate::engine::reply::Reply;
use crate::error::Result;
use crate::format::record::OnceConfigured;
use crate::stream::{OnceInfo, OnceSettings};
use crate::types::{StreamName, StreamNumber};

impl Core {
    pub(super) fn once_info(&mut self, name: &StreamName, reply: Reply<Option<OnceInfo>>, now: Now) {
        match self.stream_number(name).map(|number| &self.streams[&number]) {
            Ok(slot) => {
                let (info, dirty) = (slot.stream.once.info(now.wall_ms), slot.dirty);
                self.answer_observed(reply, Ok(info), dirty);
            }
            Err(error) => self.refuse(reply, error),
        }
    }

    /// A stream that was just made remembers as new ones are to. Room was admitted.
    pub(super) fn begin_once(&mut self, number: StreamNumber) {
        let settings = self.shared.once_settings();
        if settings != OnceSettings::default() {
            self.set_once(number, settings);
        }
    }

    fn set_once(&mut self, stream: StreamNumber, OnceSettings { window_s, names_max }: OnceSettings) {
        let record = OnceConfigured { stream, window_s, names_max };
        self.change_stream(stream, |stream| stream.once.configure(&record));
        self.record(record, Some(stream));
    }

    pub(super) fn configure_once(&mut self, name: &StreamName, to: (Option<u32>, Option<u32>), reply: Reply<()>) {
        let result = self.try_configure_once(name, to);
        self.answer_or_refuse(reply, result);
    }

    fn try_configure_once(
        &mut self,
        name: &StreamName,
        (window_s, names_max): (Option<u32>, Option<u32>),
    ) -> Result<()> {
        self.check_open()?;
        let number = self.stream_number(name)?;
        let known = self.streams[&number].stream.once.settings();
        let settings = OnceSettings {
            window_s: window_s.unwrap_or(known.window_s),
            names_max: names_max.unwrap_or(known.names_max),
        };
        if settings != known {
            self.admit(ADMIN_COST, Admit::Growing)?;
            self.set_once(number, settings);
        }
        Ok(())
    }
}
