//! Subcommands: which there are, how many arguments each takes, and what HELP says of them.

use crate::resp::args::Args;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::takes;

/// A subcommand: its name, the number of its arguments as for commands (both names included), and lines of help.
type Subcommand = (&'static str, i32, &'static [&'static str]);

/// Commands with subcommands, and the first line of their help.
const ALL: &[(&str, &str, &[Subcommand])] = &[
    ("client", "CLIENT <subcommand> [<argument> ...], where the subcommands are:", CLIENT),
    ("command", "COMMAND [<subcommand> [<argument> ...]], where the subcommands are:", COMMAND),
    ("config", "CONFIG <subcommand> [<argument> ...], where the subcommands are:", CONFIG),
    ("function", "FUNCTION <subcommand> [<argument> ...], where the subcommands are:", FUNCTION),
    ("script", "SCRIPT <subcommand> [<argument> ...], where the subcommands are:", SCRIPT),
    ("xgroup", "XGROUP <subcommand> [<argument> ...], where the subcommands are:", XGROUP),
    ("xinfo", "XINFO <subcommand> [<argument> ...], where the subcommands are:", XINFO),
];

const HELP: Subcommand = ("help", 2, &["HELP", "    Tell these lines."]);

const CLIENT: &[Subcommand] = &[
    ("getname", 2, &["GETNAME", "    The name of this connection."]),
    HELP,
    ("id", 2, &["ID", "    The number of this connection."]),
    ("info", 2, &["INFO", "    What LIST tells of this connection."]),
    (
        "kill",
        -3,
        &[
            "KILL <address> | <option> <value> ...",
            "    Close connections: by the address of the client, or by all of these.",
            "    ID <number>, ADDR <address>, LADDR <address>, TYPE <type>, USER <name>, MAXAGE <seconds>,",
            "    SKIPME (YES|NO), which is YES unless said.",
        ],
    ),
    ("list", -2, &["LIST [TYPE <type>] [ID <number> ...]", "    A line for each connection."]),
    ("no-evict", 3, &["NO-EVICT (ON|OFF)", "    No effect: no connection is closed for memory."]),
    ("no-touch", 3, &["NO-TOUCH (ON|OFF)", "    No effect: no key is evicted."]),
    ("reply", 3, &["REPLY (ON|OFF|SKIP)", "    Whether commands of this connection are answered."]),
    ("setinfo", 4, &["SETINFO (LIB-NAME|LIB-VER) <text>", "    Tell the library of this connection."]),
    ("setname", 3, &["SETNAME <name>", "    Name this connection."]),
    ("unblock", -3, &["UNBLOCK <number> [TIMEOUT|ERROR]", "    Have a connection that waits go on."]),
];

const COMMAND: &[Subcommand] = &[
    ("count", 2, &["COUNT", "    How many commands there are."]),
    ("docs", -2, &["DOCS [<command> ...]", "    Nothing: commands are documented elsewhere."]),
    ("getkeys", -3, &["GETKEYS <command> <argument> ...", "    The keys that a command names."]),
    HELP,
    ("info", -2, &["INFO [<command> ...]", "    Arguments, kinds and keys of commands."]),
    ("list", 2, &["LIST", "    The names of all commands."]),
];

const CONFIG: &[Subcommand] = &[
    ("get", -3, &["GET <pattern> ...", "    Settings by name."]),
    HELP,
    ("resetstat", 2, &["RESETSTAT", "    Count the commands and errors of INFO from zero."]),
    ("set", -4, &["SET <name> <value> ...", "    Change settings, until the server ends."]),
];

const FUNCTION: &[Subcommand] = &[
    ("flush", -2, &["FLUSH [ASYNC|SYNC]", "    No effect: there are no functions."]),
    HELP,
    ("list", -2, &["LIST [<option> ...]", "    Nothing: there are no functions."]),
];

const SCRIPT: &[Subcommand] = &[
    ("exists", -3, &["EXISTS <digest> ...", "    Zeros: there are no scripts."]),
    ("flush", -2, &["FLUSH [ASYNC|SYNC]", "    No effect: there are no scripts."]),
    HELP,
];

const XGROUP: &[Subcommand] = &[
    (
        "create",
        -5,
        &["CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <count>]", "    Make a group that begins after the id."],
    ),
    ("createconsumer", 5, &["CREATECONSUMER <key> <group> <consumer>", "    Make a consumer."]),
    ("delconsumer", 5, &["DELCONSUMER <key> <group> <consumer>", "    Delete a consumer."]),
    ("destroy", 4, &["DESTROY <key> <group>", "    Delete a group."]),
    HELP,
    ("setid", -5, &["SETID <key> <group> <id|$> [ENTRIESREAD <count>]", "    Move a group to behind the id."]),
];

const XINFO: &[Subcommand] = &[
    ("consumers", 4, &["CONSUMERS <key> <group>", "    The consumers of a group."]),
    ("groups", 3, &["GROUPS <key>", "    The groups of a stream."]),
    HELP,
    ("stream", -3, &["STREAM <key> [FULL [COUNT <count>]]", "    What there is to know of a stream."]),
];

/// The subcommand that these arguments begin with, in small letters, where there is one and it has enough of them.
pub(super) fn subcommand(command: &str, args: &mut Args<'_>) -> Result<&'static str, Refusal> {
    let count = args.rest().len() + 1;
    let given = args.next()?;
    let found = of_command(command).1.iter().find(|(name, ..)| given.eq_ignore_ascii_case(name.as_bytes()));
    let Some((name, arity, _)) = found else { return Err(super::server::unknown_subcommand(command, given)) };
    if !takes(*arity, count) {
        return Err(Refusal::arity(&format!("{command}|{name}")));
    }
    Ok(name)
}

/// Whether the arguments ask for HELP.
pub(in crate::resp) fn is_asked(args: Args<'_>) -> bool {
    args.rest().first().is_some_and(|first| first.eq_ignore_ascii_case(b"help"))
}

/// What HELP says of a command.
pub(in crate::resp) fn of(command: &str, mut args: Args<'_>) -> Result<Reply, Refusal> {
    subcommand(command, &mut args)?;
    let (title, subcommands) = of_command(command);
    let lines = subcommands.iter().flat_map(|(.., lines)| lines.iter());
    Ok(Reply::Array([&title].into_iter().chain(lines).map(|line| Reply::Simple(line)).collect()))
}

fn of_command(command: &str) -> (&'static str, &'static [Subcommand]) {
    let found = ALL.iter().find(|(name, ..)| *name == command);
    found.map_or(("", &[]), |(_, title, subcommands)| (title, subcommands))
}
