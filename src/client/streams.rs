//! The catalogue of streams, and what shrinks them.

use std::collections::BTreeSet;

use super::Client;
use super::entry::needed;
use super::error::Result;
use crate::proto::v1::{self, StreamInfo, StreamSettings, TrimStreamRequest, TrimStreamResponse};
use crate::types::EntryId;

/// Calls that concern one stream. Nothing is asked until one of them is made.
#[derive(Clone)]
pub struct StreamHandle {
    pub(super) client: Client,
    pub(super) stream: String,
}

impl StreamHandle {
    pub(super) fn new(client: Client, stream: String) -> Self {
        Self { client, stream }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.stream
    }

    /// Makes it. `STREAM_EXISTS` where there is one of that name.
    pub async fn create(&self, settings: StreamSettings) -> Result<StreamInfo> {
        let request = v1::CreateStreamRequest { stream: self.stream.clone(), settings: Some(settings) };
        needed(self.client.call(self.client.raw_streams().create_stream(request)).await?.info)
    }

    /// What is known of it.
    pub async fn get(&self) -> Result<StreamInfo> {
        let request = v1::GetStreamRequest { stream: self.stream.clone() };
        needed(self.client.call(self.client.raw_streams().get_stream(request)).await?.info)
    }

    /// Changes these of its settings: `description`, `durability`, `retention`, `dedup`; all where none is named.
    pub async fn update(&self, settings: StreamSettings, fields: &[&str]) -> Result<StreamInfo> {
        let request = v1::UpdateStreamRequest {
            stream: self.stream.clone(),
            settings: Some(settings),
            update_mask: mask(fields),
        };
        needed(self.client.call(self.client.raw_streams().update_stream(request)).await?.info)
    }

    /// Deletes it with its entries and groups.
    pub async fn delete(&self) -> Result<()> {
        let request = v1::DeleteStreamRequest { stream: self.stream.clone() };
        self.client.call(self.client.raw_streams().delete_stream(request)).await.map(drop)
    }

    /// Drops its oldest entries, or says what would go. Exactly one bound of the request must be set; its stream is
    /// this one whatever it says.
    pub async fn trim(&self, request: TrimStreamRequest) -> Result<TrimStreamResponse> {
        let request = TrimStreamRequest { stream: self.stream.clone(), ..request };
        self.client.call(self.client.raw_streams().trim_stream(request)).await
    }

    /// Deletes single entries, and says how many existed.
    pub async fn delete_events(&self, ids: &[EntryId]) -> Result<u64> {
        let ids = ids.iter().map(|id| (*id).into()).collect();
        let request = v1::DeleteEventsRequest { stream: self.stream.clone(), ids };
        Ok(self.client.call(self.client.raw_streams().delete_events(request)).await?.deleted)
    }
}

impl Client {
    /// The streams whose names begin so, by name; all of them for an empty prefix.
    pub async fn list_streams(&self, prefix: &str) -> Result<Vec<StreamInfo>> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        let mut seen = BTreeSet::new();
        loop {
            let request = v1::ListStreamsRequest { prefix: prefix.into(), page_size: 0, page_token };
            let page = self.call(self.raw_streams().list_streams(request)).await?;
            found.extend(page.streams);
            page_token = page.next_page_token;
            // A page that leads back would never end.
            if page_token.is_empty() || !seen.insert(page_token.clone()) {
                return Ok(found);
            }
        }
    }
}

/// The fields of an update; none named is all.
pub(super) fn mask(fields: &[&str]) -> Option<prost_types::FieldMask> {
    (!fields.is_empty())
        .then(|| prost_types::FieldMask { paths: fields.iter().map(|field| (*field).to_owned()).collect() })
}
