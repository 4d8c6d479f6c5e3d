//! Dead letters between messages and the engine.

use super::convert::{ids, pb_id, pb_ids, pb_time, unsupported, within};
use super::pb;
use super::wire::Recorded;
use crate::engine::{DeadLetter, DeadLetterChoice, DeadLetterPage, RedriveTo, Redriven};
use crate::error::{Error, Result};
use crate::types::StreamName;

/// Which dead letters a request means.
pub(super) fn choice(which: Option<pb::DeadLetterChoice>) -> Result<DeadLetterChoice> {
    use pb::dead_letter_choice::Choice;
    match which.and_then(|w| w.choice) {
        None => Err(Error::invalid("which", "is needed: either ids or all")),
        Some(Choice::All(())) => Ok(DeadLetterChoice::All),
        Some(Choice::Ids(list)) => ids("ids", list.ids).map(DeadLetterChoice::Ids).map_err(|e| within("which", e)),
    }
}

/// Which dead letters go where.
pub(super) fn redrive(request: pb::RedriveDeadLettersRequest) -> Result<(DeadLetterChoice, RedriveTo)> {
    unsupported("filter", !request.filter.is_empty())?;
    unsupported("entries_per_second_max", request.entries_per_second_max != 0)?;
    unsupported("replacement", request.replacement.is_some())?;
    let to = match pb::RedriveTarget::try_from(request.target) {
        Ok(pb::RedriveTarget::Group) => RedriveTo::Group,
        Ok(pb::RedriveTarget::Stream) => RedriveTo::Stream,
        Ok(pb::RedriveTarget::Unspecified) | Err(_) => {
            return Err(Error::invalid("target", "must be the group or the stream"));
        }
    };
    Ok((choice(request.which)?, to))
}

pub(super) fn redriven(redriven: &Redriven) -> pb::RedriveDeadLettersResponse {
    pb::RedriveDeadLettersResponse {
        done: redriven.done,
        not_found: pb_ids(&redriven.not_found),
        original_gone: pb_ids(&redriven.original_gone),
        is_cut_short: redriven.is_cut_short,
    }
}

pub(super) fn purged(purged: &Redriven) -> pb::PurgeDeadLettersResponse {
    pb::PurgeDeadLettersResponse { done: purged.done, not_found: pb_ids(&purged.not_found) }
}

pub(super) fn page(stream: &StreamName, page: DeadLetterPage) -> pb::ListDeadLettersResponse {
    pb::ListDeadLettersResponse {
        dead_letters: page.letters.into_iter().map(|letter| message(stream, letter)).collect(),
        next_after: page.next_after.map(pb_id),
    }
}

fn message(stream: &StreamName, letter: DeadLetter) -> pb::DeadLetter {
    pb::DeadLetter {
        event: Some(Recorded::new(stream, letter.entry)),
        origin_stream: letter.origin_stream,
        origin_id: Some(pb_id(letter.origin_id)),
        group: letter.group,
        deliveries: letter.deliveries,
        failures: letter.failures,
        reason: letter.reason,
        failed_time: Some(pb_time(letter.failed_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[test]
    fn redrives_say_what_and_where() {
        let all = pb::DeadLetterChoice { choice: Some(pb::dead_letter_choice::Choice::All(())) };
        let good = pb::RedriveDeadLettersRequest {
            which: Some(all),
            target: pb::RedriveTarget::Stream as i32,
            ..Default::default()
        };
        assert_eq!(redrive(good.clone()).expect("valid"), (DeadLetterChoice::All, RedriveTo::Stream));
        let refused = |request| redrive(request).expect_err("must be refused").reason();
        assert_eq!(refused(pb::RedriveDeadLettersRequest { target: 0, ..good.clone() }), Reason::InvalidArgument);
        assert_eq!(refused(pb::RedriveDeadLettersRequest { which: None, ..good.clone() }), Reason::InvalidArgument);
        let edited = pb::RedriveDeadLettersRequest { replacement: Some(pb::Event::default()), ..good };
        assert_eq!(refused(edited), Reason::Unsupported);
    }
}
