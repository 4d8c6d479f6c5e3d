//! Getting and settling entries of a group: requests and answers between messages and the engine.

use std::time::Duration;

use super::convert::{
    bounded, consumer, delivery, duration_ms, group_of, id, ids, page, pb_id, pb_ids, range, ranges, span, token,
    unsupported, within,
};
use super::pb;
use super::publish::{self, Publisher};
use super::wire::Recorded;
use crate::access::Caller;
use crate::engine::{
    Acknowledge, Claim, ClaimOptions, Claimed, Delivered, Delivery, Extend, Holder, ListPending, Nack, NackAction,
    PendingInfo, Pull, Settled,
};
use crate::error::{Error, Result};
use crate::limits;
use crate::types::{ConsumerName, EntryId, IdRange, StreamName};

/// Entries of a pull or claim, unless asked otherwise.
const DELIVERY_ENTRIES_DEFAULT: usize = 100;
/// Entries of a list of pending ones, unless asked otherwise.
const PENDING_ENTRIES_DEFAULT: usize = 1000;

pub(super) fn pull(request: pb::PullRequest) -> Result<Pull> {
    let (stream, group) = group_of(&request.stream, &request.group)?;
    unsupported("filter", !request.filter.is_empty())?;
    let (entries_max, bytes_max) = page(request.entries_max, request.bytes_max, DELIVERY_ENTRIES_DEFAULT)?;
    Ok(Pull {
        stream,
        group,
        consumer: ConsumerName::parse(&request.consumer)?,
        entries_max,
        bytes_max,
        wait: request.wait.map_or(Ok(Duration::ZERO), |wait| span("wait", &wait, limits::PULL_WAIT_MAX))?,
        no_ack: request.no_ack,
    })
}

pub(super) fn pulled(stream: &StreamName, delivery: Delivery, no_ack: bool) -> pb::PullResponse {
    let delivery_token = token_of(&delivery, no_ack);
    pb::PullResponse {
        delivery_token,
        lease: Some(duration_ms(delivery.lease_ms)),
        events: delivered(stream, delivery.entries),
    }
}

/// The token of a delivery that has something to acknowledge.
fn token_of(delivery: &Delivery, no_ack: bool) -> String {
    if no_ack || delivery.entries.is_empty() { String::new() } else { token(delivery.delivery) }
}

pub(super) fn delivered(stream: &StreamName, entries: Vec<Delivered>) -> Vec<pb::DeliveredEvent> {
    let event = |d: Delivered| pb::DeliveredEvent {
        event: Some(Recorded::new(stream, d.entry)),
        deliveries: d.deliveries,
        failures: d.failures,
    };
    entries.into_iter().map(event).collect()
}

pub(super) fn acknowledge(request: pb::AcknowledgeRequest, caller: Caller) -> Result<Acknowledge> {
    use pb::acknowledge_request::Holder as H;
    let (stream, group) = group_of(&request.stream, &request.group)?;
    let holder = match request.holder {
        None => Holder::Anyone,
        Some(H::DeliveryToken(token)) => delivery(&token)?,
        Some(H::Consumer(name)) => consumer(&name)?,
    };
    let publish = Publisher::new(caller).requests(request.publish)?;
    Ok(Acknowledge { stream, group, ids: ranges("ids", request.ids)?, holder, publish })
}

pub(super) fn acknowledged(settled: Settled) -> pb::AcknowledgeResponse {
    pb::AcknowledgeResponse {
        done: settled.done,
        not_pending: pb_ids(&settled.not_pending),
        not_owned: pb_ids(&settled.not_owned),
        published: settled.published.into_iter().map(publish::response).collect(),
    }
}

pub(super) fn nack(request: pb::NackRequest) -> Result<Nack> {
    use pb::nack_request::Holder as H;
    let (stream, group) = group_of(&request.stream, &request.group)?;
    let holder = match request.holder {
        None => Holder::Anyone,
        Some(H::DeliveryToken(token)) => delivery(&token)?,
        Some(H::Consumer(name)) => consumer(&name)?,
    };
    Ok(Nack { stream, group, ids: ranges("ids", request.ids)?, holder, action: nack_action(request.action)? })
}

pub(super) fn nack_action(action: Option<pb::NackAction>) -> Result<NackAction> {
    use pb::nack_action::Action;
    match action.and_then(|a| a.action) {
        None => Err(Error::invalid("action", "is needed")),
        Some(Action::Retry(retry)) => {
            let delay =
                retry.delay.map(|delay| span("action.retry.delay", &delay, limits::ACK_WAIT_MAX)).transpose()?;
            Ok(NackAction::Retry { delay })
        }
        Some(Action::DeadLetter(letter)) => Ok(NackAction::DeadLetter { reason: letter.reason }),
        Some(Action::Skip(())) => Ok(NackAction::Skip),
        Some(Action::HandBack(())) => Ok(NackAction::HandBack),
    }
}

pub(super) fn nacked(settled: Settled) -> pb::NackResponse {
    pb::NackResponse {
        done: settled.done,
        not_pending: pb_ids(&settled.not_pending),
        not_owned: pb_ids(&settled.not_owned),
    }
}

pub(super) fn extend(request: pb::ExtendLeaseRequest) -> Result<Extend> {
    use pb::extend_lease_request::Holder as H;
    let (stream, group) = group_of(&request.stream, &request.group)?;
    let holder = match request.holder {
        None => Holder::Anyone,
        Some(H::DeliveryToken(token)) => delivery(&token)?,
        Some(H::Consumer(name)) => consumer(&name)?,
    };
    Ok(Extend { stream, group, ids: ranges("ids", request.ids)?, holder, lease: lease(request.lease)? })
}

pub(super) fn lease(lease: Option<prost_types::Duration>) -> Result<Option<Duration>> {
    lease.map(|lease| span("lease", &lease, limits::ACK_WAIT_MAX)).transpose()
}

pub(super) fn extended(settled: Settled) -> pb::ExtendLeaseResponse {
    pb::ExtendLeaseResponse {
        done: settled.done,
        not_pending: pb_ids(&settled.not_pending),
        not_owned: pb_ids(&settled.not_owned),
    }
}

pub(super) fn list_pending(request: pb::ListPendingRequest) -> Result<ListPending> {
    let (stream, group) = group_of(&request.stream, &request.group)?;
    let entries_max = bounded("entries_max", request.entries_max, PENDING_ENTRIES_DEFAULT, limits::PAGE_ENTRIES_MAX)?;
    let consumer = (!request.consumer.is_empty()).then(|| ConsumerName::parse(&request.consumer)).transpose()?;
    Ok(ListPending {
        stream,
        group,
        range: request.range.map_or(Ok(IdRange::ALL), |r| range(&r).map_err(|e| within("range", e)))?,
        entries_max,
        consumer,
        idle_min: idle_min(request.idle_min)?,
    })
}

pub(super) fn listed(entries: Vec<PendingInfo>, asked: usize) -> pb::ListPendingResponse {
    let next = if entries.len() < asked { None } else { entries.last().and_then(|e| e.id.next()) };
    let entry = |e: PendingInfo| pb::PendingEntry {
        id: Some(pb_id(e.id)),
        consumer: e.consumer.map(|name| name.to_string()).unwrap_or_default(),
        idle: Some(duration_ms(e.idle_ms)),
        due: e.due_ms.map(duration_ms),
        deliveries: e.deliveries,
        failures: e.failures,
    };
    pb::ListPendingResponse { entries: entries.into_iter().map(entry).collect(), next_id: next.map(pb_id) }
}

pub(super) fn claim(request: pb::ClaimPendingRequest) -> Result<Claim> {
    let (stream, group) = group_of(&request.stream, &request.group)?;
    if !request.ids.is_empty() && (request.first_id.is_some() || request.entries_max != 0) {
        return Err(Error::invalid("ids", "goes with neither first_id nor entries_max"));
    }
    Ok(Claim {
        stream,
        group,
        consumer: ConsumerName::parse(&request.consumer)?,
        idle_min: idle_min(request.idle_min)?,
        ids: if request.ids.is_empty() { Vec::new() } else { ids("ids", request.ids)? },
        from: request.first_id.map_or(EntryId::ZERO, id),
        entries_max: bounded("entries_max", request.entries_max, DELIVERY_ENTRIES_DEFAULT, limits::PAGE_ENTRIES_MAX)?,
        options: ClaimOptions::default(),
    })
}

pub(super) fn claimed(stream: &StreamName, claimed: Claimed) -> pb::ClaimPendingResponse {
    pb::ClaimPendingResponse {
        delivery_token: token_of(&claimed.delivery, false),
        lease: Some(duration_ms(claimed.delivery.lease_ms)),
        events: delivered(stream, claimed.delivery.entries),
        gone: pb_ids(&claimed.gone),
        next_id: claimed.next.map(pb_id),
    }
}

fn idle_min(value: Option<prost_types::Duration>) -> Result<Duration> {
    value.map_or(Ok(Duration::ZERO), |value| span("idle_min", &value, IDLE_MAX))
}

/// Longest idle time that a filter may ask for: a hundred years or so.
const IDLE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nacks_say_what_they_want() {
        use pb::nack_action::Action;
        let of = |action| nack_action(Some(pb::NackAction { action: Some(action) }));
        nack_action(None).expect_err("unset");
        nack_action(Some(pb::NackAction::default())).expect_err("empty");
        let retry = of(Action::Retry(pb::nack_action::Retry::default())).expect("valid");
        assert_eq!(retry, NackAction::Retry { delay: None });
        let letter = pb::nack_action::DeadLetter { reason: "x".into() };
        assert_eq!(of(Action::DeadLetter(letter)).expect("valid"), NackAction::DeadLetter { reason: "x".into() });
    }

    #[test]
    fn claims_do_not_contradict_themselves() {
        let by_ids = pb::ClaimPendingRequest {
            stream: "s".into(),
            group: "g".into(),
            consumer: "c".into(),
            ids: vec![pb::EntryId { ms: 1, seq: 0 }],
            ..Default::default()
        };
        claim(by_ids.clone()).expect("valid");
        claim(pb::ClaimPendingRequest { entries_max: 5, ..by_ids }).expect_err("contradiction");
    }

    #[test]
    fn full_lists_tell_where_to_go_on() {
        let entry = |ms| PendingInfo {
            id: EntryId::new(ms, 0),
            consumer: None,
            idle_ms: 0,
            due_ms: None,
            deliveries: 1,
            failures: 0,
        };
        assert_eq!(listed(vec![entry(1), entry(2)], 3).next_id, None);
        assert_eq!(listed(vec![entry(1), entry(2)], 2).next_id, Some(pb::EntryId { ms: 2, seq: 1 }));
    }
}
