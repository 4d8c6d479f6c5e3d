//! XGROUP, XACK.

use bytes::Bytes;

use crate::access::Permission;
use crate::engine::{Acknowledge, CreateGroup, Holder, StartAt};
use crate::error::Reason;
use crate::resp::args::Args;
use crate::resp::commands::server::unknown_subcommand;
use crate::resp::ids;
use crate::resp::refusal::{Failed, Refusal};
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::{ConsumerName, GroupName, GroupSettings, IdRange, StreamName};

const NEEDS_KEY: &str = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use \
                         the MKSTREAM option to create an empty stream automatically.";

impl Session {
    pub(in crate::resp) async fn group(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let given = args.next()?;
        let subcommand = given.to_ascii_lowercase();
        let name = String::from_utf8_lossy(&subcommand).into_owned();
        let count = args.rest().len();
        let enough = match &subcommand[..] {
            b"create" | b"setid" => (3..=6).contains(&count),
            b"destroy" => count == 2,
            b"createconsumer" | b"delconsumer" => count == 3,
            _ => return Err(unknown_subcommand("XGROUP", given)),
        };
        if !enough {
            return Err(Refusal::arity(&format!("xgroup|{name}")));
        }
        let (key, group) = (args.next()?, args.next()?);
        let stream = self.stream(key, Permission::Admin)?;
        let group_name = GroupName::from_bytes(group)?;
        let outcome = match &subcommand[..] {
            b"create" => self.create_group(stream, group_name, args).await,
            b"setid" => self.set_id(&stream, &group_name, args).await,
            b"destroy" => self.destroy_group(&stream, &group_name).await,
            b"createconsumer" => self.create_consumer(&stream, &group_name, args).await,
            _ => self.delete_consumer(&stream, &group_name, args).await,
        };
        outcome.map_err(|error| match error {
            Failed::Refused(refusal) => refusal,
            Failed::Engine(error) if error.reason() == Reason::StreamNotFound => Refusal::new(NEEDS_KEY),
            Failed::Engine(error) if error.reason() == Reason::GroupNotFound => Refusal::no_such_group(key, group),
            Failed::Engine(error) => error.into(),
        })
    }

    async fn create_group(&self, stream: StreamName, group: GroupName, mut args: Args<'_>) -> Result<Reply, Failed> {
        let start_text = args.next()?;
        let (mut create_stream, mut reads) = (false, None);
        while !args.is_empty() {
            if args.next_is("mkstream") {
                create_stream = true;
            } else {
                reads = entries_read(&mut args, "CREATE")?;
            }
        }
        if !create_stream && !self.engine.has_stream(&stream) {
            return Err(Refusal::new(NEEDS_KEY).into());
        }
        let start = start(start_text, false)?;
        let settings = GroupSettings::by_hand();
        let create = CreateGroup { stream, group, start, settings, create_stream };
        self.engine.create_group_counted(create, reads).await?;
        Ok(Reply::OK)
    }

    async fn set_id(&self, stream: &StreamName, group: &GroupName, mut args: Args<'_>) -> Result<Reply, Failed> {
        let start_text = args.next()?;
        let mut reads = None;
        while !args.is_empty() {
            reads = entries_read(&mut args, "SETID")?;
        }
        // That there is no such group is told whatever the id is.
        self.check_group(stream, group).await?;
        let start = start(start_text, true)?;
        self.engine.seek_group_counted(stream, group, start, reads, false).await?;
        Ok(Reply::OK)
    }

    /// Fails where there is no such group, without a look at what it holds.
    pub(super) async fn check_group(&self, stream: &StreamName, group: &GroupName) -> crate::error::Result<()> {
        let info = self.engine.stream_counts(stream).await?;
        let missing = || crate::error::Error::group_not_found(stream, group);
        info.groups.contains(group).then_some(()).ok_or_else(missing)
    }

    async fn destroy_group(&self, stream: &StreamName, group: &GroupName) -> Result<Reply, Failed> {
        match self.engine.delete_group(stream, group).await {
            Err(error) if error.reason() == Reason::GroupNotFound => Ok(Reply::Int(0)),
            outcome => Ok(outcome.map(|()| Reply::Int(1))?),
        }
    }

    async fn create_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        mut args: Args<'_>,
    ) -> Result<Reply, Failed> {
        let consumer = ConsumerName::from_bytes(args.next()?)?;
        let is_new = self.engine.add_consumer(stream, group, consumer).await?;
        Ok(Reply::Int(i64::from(is_new)))
    }

    async fn delete_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        mut args: Args<'_>,
    ) -> Result<Reply, Failed> {
        let consumer = ConsumerName::from_bytes(args.next()?)?;
        match self.engine.drop_consumer(stream, group, &consumer).await {
            Err(error) if error.reason() == Reason::ConsumerNotFound => Ok(Reply::Int(0)),
            removed => Ok(Reply::count(removed?)),
        }
    }

    pub(in crate::resp) async fn acknowledge(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let (key, group) = (args.next()?, args.next()?);
        let stream = self.stream(key, Permission::Consume)?;
        let group = GroupName::from_bytes(group)?;
        let ids = args.rest().iter().map(|id: &Bytes| ids::strict(id, 0).map(IdRange::one));
        let ids = match ids.collect::<Result<Vec<_>, _>>() {
            Ok(ids) => ids,
            // Where there is no such group, ids are not looked at.
            Err(invalid) => {
                return match self.engine.group(&stream, &group).await {
                    Err(error) if is_missing(&error) => Ok(Reply::Int(0)),
                    Err(error) => Err(error.into()),
                    Ok(_) => Err(invalid),
                };
            }
        };
        let request = Acknowledge { stream, group, ids, holder: Holder::Anyone, publish: Vec::new() };
        match self.engine.acknowledge(request).await {
            Err(error) if is_missing(&error) => Ok(Reply::Int(0)),
            settled => Ok(Reply::count(settled?.done)),
        }
    }
}

/// Whether a stream or group is missing.
pub(in crate::resp) fn is_missing(error: &crate::error::Error) -> bool {
    matches!(error.reason(), Reason::StreamNotFound | Reason::GroupNotFound)
}

fn start(id: &[u8], lenient: bool) -> Result<StartAt, Refusal> {
    match id {
        b"$" => Ok(StartAt::Latest),
        _ if lenient => ids::lenient(id, 0).map(StartAt::After),
        _ => ids::strict(id, 0).map(StartAt::After),
    }
}

/// `ENTRIESREAD n`: how many entries the group counts as read; not known where that is -1.
fn entries_read(args: &mut Args<'_>, subcommand: &str) -> Result<Option<u64>, Refusal> {
    if args.rest().len() < 2 || !args.next_is("entriesread") {
        return Err(Refusal::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try XGROUP HELP."
        )));
    }
    match args.int()? {
        -1 => Ok(None),
        count => {
            let count = u64::try_from(count);
            count.map(Some).map_err(|_| Refusal::new("ERR value for ENTRIESREAD must be positive or -1"))
        }
    }
}
