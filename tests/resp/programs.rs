//! Programs whose every reply must be that of Redis: a name, and a command a line.

pub(crate) const ALL: [(&str, &str); 12] = [
    ("adding", ADDING),
    ("ranges", RANGES),
    ("trimming", TRIMMING),
    ("reading", READING),
    ("groups", GROUPS),
    ("pending entries", PENDING),
    ("transactions and keys", TRANSACTIONS),
    ("effects within a transaction", EFFECTS),
    ("renaming", RENAMING),
    ("setting the last id", SETTING_IDS),
    ("expiring", EXPIRING),
    ("connections and settings", CONNECTIONS),
];

const ADDING: &str = r#"
    XADD s 1-1 a 1
    XADD s 1-1 a 1
    XADD s 1 a 1
    XADD s 0-0 a 1
    XADD new 0 a 1
    EXISTS new
    XADD s 1-* a 1
    XADD s 1-* a 1 a 2 "b c" ""
    XADD s 5-* x y
    XADD s 4-* x y
    XADD s abc a 1
    XADD s -1 a 1
    XADD s 1-2-3 a 1
    XADD s 6-0 a
    XADD s 6-0
    XADD s
    XADD
    XADD s MAXLENN 5 6-0 a 1
    XADD missing NOMKSTREAM 6-0 a 1
    XADD s NOMKSTREAM 6-0 a 1
    XLEN s
    XLEN missing
    XLEN
    XADD s 18446744073709551615-18446744073709551615 a 1
    XADD s * a 1
    TYPE s
    TYPE missing
    XDEL s 6-0 7-0
    XDEL s nonsense
    XDEL missing 1-0
    XDEL s
    XINFO STREAM missing
"#;

const RANGES: &str = r#"
    XADD s 1-0 a 1
    XADD s 1-5 a 2
    XADD s 2-0 a 3
    XADD s 7-7 a 4
    XRANGE s - +
    XREVRANGE s + -
    XRANGE s 1 1
    XRANGE s 1-1 2
    XRANGE s (1-0 +
    XRANGE s - (7-7
    XREVRANGE s (7-7 (1-0
    XRANGE s - + COUNT 2
    XREVRANGE s + - COUNT 1
    XRANGE s - + COUNT 0
    XRANGE s - + COUNT -1
    XRANGE s - + COUNT x
    XRANGE s - + NONSENSE
    XRANGE s 7 2
    XRANGE s (- +
    XRANGE s (18446744073709551615-18446744073709551615 +
    XRANGE s - (0-0
    XRANGE s x +
    XRANGE missing - +
    XRANGE missing - + COUNT 0
    XRANGE s -
"#;

const TRIMMING: &str = r#"
    XADD s 1-0 a 1
    XADD s 2-0 a 1
    XADD s 3-0 a 1
    XADD s MAXLEN = 2 4-0 a 1
    XRANGE s - +
    XADD s MAXLEN 0 5-0 a 1
    XLEN s
    XADD s 6-0 a 1
    XADD s 7-0 a 1
    XADD s MINID 7 8-0 a 1
    XRANGE s - +
    XTRIM s MAXLEN 1
    XTRIM s MAXLEN 1
    XTRIM s MINID 100
    XTRIM missing MAXLEN 1
    XTRIM s MAXLEN -1
    XTRIM s MAXLEN x
    XTRIM s MAXLEN = 1 LIMIT 5
    XTRIM s LIMIT 5
    XTRIM s MAXLEN 1 MINID 1
    XTRIM s NONSENSE 1
    XTRIM s
    XADD s MAXLEN 5 MINID 5 9-0 a 1
    XADD s LIMIT 5 9-0 a 1
    XADD s MAXLEN ~ 1000 LIMIT -1 9-0 a 1
    XADD s MAXLEN ~ 1000 9-0 a 1
    XLEN s
"#;

const READING: &str = r#"
    XADD a 1-0 f 1
    XADD a 2-0 f 2
    XADD b 1-0 g 1
    XREAD STREAMS a 0
    XREAD STREAMS a b 0 0
    XREAD COUNT 1 STREAMS a b 0 0
    XREAD COUNT 0 STREAMS a 1
    XREAD STREAMS a b 2-0 1-0
    XREAD STREAMS a $
    XREAD STREAMS missing 0
    XREAD BLOCK 10 STREAMS missing 0
    XREAD BLOCK 10 STREAMS a $
    XREAD BLOCK 10 STREAMS a 1
    XTRIM b MAXLEN 0
    XREAD STREAMS b 0
    XREAD BLOCK 10 STREAMS b 0
    XREAD STREAMS a b 0
    XREAD STREAMS a
    XREAD STREAMS
    XREAD COUNT
    XREAD BLOCK x STREAMS a 0
    XREAD BLOCK -1 STREAMS a 0
    XREAD COUNT x STREAMS a 0
    XREAD STREAMS a >
    XREAD STREAMS a x
    XREAD NONSENSE STREAMS a 0
    XREAD GROUP g c STREAMS a 0
    XREAD NOACK STREAMS a 0
"#;

const GROUPS: &str = r#"
    XGROUP CREATE s g 0
    XGROUP CREATE s g 0 MKSTREAM
    XGROUP CREATE s g 0 MKSTREAM
    XGROUP CREATE s g2 $
    XGROUP CREATE s g3 x
    XGROUP CREATE s g3
    XGROUP CREATE s g3 0 ENTRIESREAD -2
    XGROUP NONSENSE s g
    XADD s 1-0 a 1
    XADD s 2-0 a 2
    XADD s 3-0 a 3
    XREADGROUP GROUP g alice COUNT 2 STREAMS s >
    XREADGROUP GROUP g bob STREAMS s >
    XREADGROUP GROUP g bob STREAMS s >
    XREADGROUP GROUP g alice STREAMS s 0
    XREADGROUP GROUP g alice STREAMS s 1-0
    XREADGROUP GROUP g carol STREAMS s 0
    XREADGROUP GROUP g alice STREAMS s $
    XREADGROUP GROUP missing alice STREAMS s >
    XREADGROUP GROUP g alice STREAMS missing >
    XREADGROUP GROUP g alice STREAMS s
    XREADGROUP GROUP g alice STREAMS s missing > >
    XREADGROUP STREAMS s > a b c
    XREADGROUP GROUP g2 zoe NOACK STREAMS s >
    XREADGROUP GROUP g2 zoe STREAMS s 0
    XACK s g 1-0 9-0
    XACK s g 1-0
    XACK s g x
    XACK s missing x
    XACK missing g x
    XACK s g
    XREADGROUP GROUP g alice STREAMS s 0
    XGROUP CREATECONSUMER s g dora
    XGROUP CREATECONSUMER s g dora
    XGROUP CREATECONSUMER s missing dora
    XGROUP DELCONSUMER s g nobody
    XGROUP DELCONSUMER s g dora
    XGROUP DELCONSUMER missing g dora
    XGROUP SETID s g 0
    XGROUP SETID s missing 0
    XREADGROUP GROUP g eve COUNT 1 STREAMS s >
    XGROUP DESTROY s g
    XGROUP DESTROY s g
    XGROUP DESTROY missing g
    XINFO GROUPS missing
    XINFO CONSUMERS s missing
    XINFO NONSENSE s
"#;

const PENDING: &str = r#"
    XGROUP CREATE s g 0 MKSTREAM
    XPENDING s g
    XPENDING s missing
    XPENDING missing g
    XADD s 1-0 a 1
    XADD s 2-0 a 2
    XADD s 3-0 a 3
    XADD s 4-0 a 4
    XREADGROUP GROUP g bob COUNT 1 STREAMS s >
    XREADGROUP GROUP g alice STREAMS s >
    XPENDING s g
    XPENDING s g - + 10 nobody
    XPENDING s g - + 0
    XPENDING s g - +
    XPENDING s g - + x
    XPENDING s g IDLE 100000 - + 10
    XPENDING s g x + 10
    XCLAIM s g carol 0 1-0 2-0 9-0
    XCLAIM s g carol 100000 3-0
    XCLAIM s g carol 0 3-0 JUSTID
    XCLAIM s g carol x 3-0
    XCLAIM s missing carol 0 3-0
    XCLAIM missing g carol 0 3-0
    XCLAIM s g carol 0 3-0 NONSENSE
    XPENDING s g
    XAUTOCLAIM s g dave 0 - COUNT 2
    XAUTOCLAIM s g dave 0 3-0 JUSTID
    XAUTOCLAIM s g dave 100000 -
    XAUTOCLAIM s g dave 0 - COUNT 0
    XAUTOCLAIM s g dave 0 - COUNT 576460752303423488
    XAUTOCLAIM s g dave 100000 - COUNT 5764
    XAUTOCLAIM s missing dave 0 -
    XDEL s 2-0
    XAUTOCLAIM s g erin 0 -
    XPENDING s g
    XACK s g 1-0 3-0 4-0
    XPENDING s g
"#;

const TRANSACTIONS: &str = r#"
    MULTI
    XADD s 1-0 a 1
    XLEN s
    XREAD BLOCK 0 STREAMS s $
    EXEC
    MULTI
    MULTI
    NONSENSE
    EXEC
    MULTI
    XADD s 2-0 a 1
    DISCARD
    XLEN s
    EXEC
    DISCARD
    EXISTS s missing s
    DEL s missing
    DEL s
    DBSIZE
    SELECT 0
    SELECT 99
    ECHO hello
    PING
    PING hello
    PING a b
    CLIENT GETNAME
    CLIENT SETNAME me
    CLIENT GETNAME
    NONSENSE
    HELLO 4
    XADD s 1-0 a 1
    XADD t 1-0 a 1
    KEYS nothing*
"#;

const EFFECTS: &str = r#"
    XADD old 1-0 a 1
    XADD old 2-0 a 2
    XGROUP CREATE old g 0
    MULTI
    XADD s 1-0 a 1
    XADD s 2-0 a 2
    XADD s 2-0 a 2
    XLEN s
    XRANGE s - +
    XREVRANGE s + - COUNT 1
    XREAD STREAMS s 0
    XREAD BLOCK 0 STREAMS s old 1 1
    EXISTS s missing
    TYPE s
    XGROUP CREATE s g 0
    XGROUP CREATE s g 0
    XREADGROUP GROUP g alice COUNT 1 STREAMS s >
    XADD s 3-0 a 3
    XREADGROUP GROUP g bob BLOCK 0 STREAMS s >
    XREADGROUP GROUP g bob BLOCK 0 STREAMS s >
    XREADGROUP GROUP g alice STREAMS s 0
    XPENDING s g
    XACK s g 1-0 2-0 9-0
    XPENDING s g
    XDEL s 2-0 7-0
    XRANGE s - +
    XREVRANGE s + -
    XADD s MAXLEN 2 4-0 a 4
    XRANGE s - +
    XTRIM s MINID 4
    XREVRANGE s + -
    XLEN s
    XREADGROUP GROUP g carol STREAMS s >
    XCLAIM s g dave 0 3-0 4-0
    XPENDING s g
    EXEC
    XRANGE s - +
    XPENDING s g
    XREADGROUP GROUP g carol STREAMS s >
    MULTI
    XREADGROUP GROUP g alice COUNT 1 STREAMS old >
    XADD old 3-0 a 3
    XADD old 4-0 a 4
    XREADGROUP GROUP g alice COUNT 2 STREAMS old >
    XTRIM old MAXLEN 1
    XRANGE old - +
    XGROUP DESTROY old g
    XREADGROUP GROUP g alice STREAMS old >
    EXEC
    XRANGE old - +
    MULTI
    DEL old
    XLEN old
    XRANGE old - +
    XADD old 1-0 b 1
    XRANGE old - +
    XREVRANGE old + -
    DBSIZE
    DEL old
    EXISTS old
    EXEC
    EXISTS old
    MULTI
    XGROUP CREATE m g $ MKSTREAM
    XREADGROUP GROUP g alice STREAMS m >
    XADD m 5-0 a 1
    XADD m 6-0 a 1
    XADD m 7-0 a 1
    XREADGROUP GROUP g alice COUNT 1 STREAMS m >
    EXEC
    XREADGROUP GROUP g alice STREAMS m >
    MULTI
    XADD m 8-0 a 1
    XGROUP SETID m g 7
    XREADGROUP GROUP g bob COUNT 2 STREAMS m >
    EXEC
    XREADGROUP GROUP g bob STREAMS m >
    MULTI
    EXEC
    MULTI
    XADD m
    XADD m 9-0 a 1
    EXEC
    XLEN m
    MULTI
    XADD m 5-0 a 1
    XADD m x a 1
    XGROUP CREATE missing g 0
    XADD m 9-0 a 1
    EXEC
    XLEN m
"#;

const CONNECTIONS: &str = r#"
    CLIENT
    CLIENT NONSENSE
    CLIENT ID x
    CLIENT GETNAME x
    CLIENT SETNAME
    CLIENT SETNAME "a b"
    CLIENT SETNAME me
    CLIENT GETNAME
    CLIENT SETNAME ""
    CLIENT GETNAME
    CLIENT NO-EVICT
    CLIENT NO-EVICT x
    CLIENT NO-EVICT on
    CLIENT NO-EVICT off
    CLIENT REPLY
    CLIENT REPLY x
    CLIENT REPLY on
    CLIENT LIST x
    CLIENT LIST TYPE x
    CLIENT LIST TYPE pubsub
    CLIENT LIST TYPE normal x
    CLIENT LIST ID
    CLIENT LIST ID x
    CLIENT LIST ID 99999
    CLIENT UNBLOCK
    CLIENT UNBLOCK x
    CLIENT UNBLOCK 99999
    CLIENT UNBLOCK 99999 TIMEOUT
    CLIENT UNBLOCK 99999 ERROR
    CLIENT UNBLOCK 99999 x
    CLIENT UNBLOCK 99999 ERROR x
    CLIENT KILL
    CLIENT KILL 1.2.3.4:5
    CLIENT KILL ID x
    CLIENT KILL ID 0
    CLIENT KILL ID 99999
    CLIENT KILL ADDR 1.2.3.4:5
    CLIENT KILL ID 99999 TYPE normal
    CLIENT KILL TYPE x
    CLIENT KILL SKIPME x
    CLIENT KILL NONSENSE x
    CLIENT HELP x
    CONFIG
    CONFIG NONSENSE
    CONFIG GET
    CONFIG GET nonsense
    CONFIG GET maxmemory
    CONFIG GET MAXMEMORY
    CONFIG GET save
    CONFIG GET stream-node-max-entries
    CONFIG SET
    CONFIG SET stream-node-max-entries
    CONFIG SET nonsense 1
    CONFIG SET stream-node-max-entries x
    CONFIG SET stream-node-max-entries -1
    CONFIG SET stream-node-max-bytes x
    CONFIG SET stream-node-max-entries 10 stream-node-max-bytes x
    CONFIG SET stream-node-max-entries 10 stream-node-max-entries 11
    CONFIG SET stream-node-max-entries 10 x
    CONFIG GET stream-node-max-entries
    CONFIG SET stream-node-max-entries 10 Stream-Node-Max-Bytes 4k
    CONFIG GET stream-node-max-entries
    CONFIG GET stream-node-max-bytes
    CONFIG SET stream-node-max-entries 100 stream-node-max-bytes 4kb
    CONFIG GET stream-node-max-bytes
    CONFIG SET maxmemory 0
    CONFIG RESETSTAT
    CONFIG HELP x
    COMMAND NONSENSE
    COMMAND COUNT x
    COMMAND GETKEYS
    COMMAND GETKEYS xadd s * a 1
    COMMAND GETKEYS del a b c
    COMMAND GETKEYS xread COUNT 1 STREAMS a b 0 0
    COMMAND GETKEYS xreadgroup GROUP g c STREAMS a >
    COMMAND GETKEYS xgroup create a g 0
    COMMAND GETKEYS ping x
    COMMAND GETKEYS nonsense x
    COMMAND GETKEYS xadd s
    COMMAND INFO nonsense
    COMMAND DOCS nonsense
    HELLO x
    HELLO 5
    HELLO 3 NONSENSE
    HELLO 2 SETNAME
    HELLO 2 SETNAME "a b"
    HELLO 2 AUTH me
    INFO nonsense
    SELECT x
    SELECT -1
    SELECT
    AUTH a b c
    AUTH a
    ECHO
    RESET x
    XINFO HELP x
    XGROUP HELP x
    XINFO
    XGROUP
    MULTI
    CLIENT SETNAME them
    PING
    EXEC
    CLIENT GETNAME
    MULTI
    RESET
    PING
    CLIENT GETNAME
    DBSIZE x
    FLUSHALL x
    FLUSHDB ASYNC SYNC
    FLUSHALL ASYNC
"#;

const RENAMING: &str = r#"
    RENAME missing b
    RENAMENX missing b
    RENAME missing
    XADD a 1-0 n 1
    XADD a 2-0 n 2
    XGROUP CREATE a g 0
    XREADGROUP GROUP g alice COUNT 1 STREAMS a >
    RENAME a b
    EXISTS a b
    XRANGE a - +
    XRANGE b - +
    XPENDING b g
    XADD b 2-0 n 3
    XADD b 3-0 n 3
    XREADGROUP GROUP g alice STREAMS b >
    XREADGROUP GROUP g alice STREAMS a >
    RENAMENX b b
    RENAME b b
    XADD c 9-0 n 9
    RENAMENX b c
    XRANGE c - +
    RENAME b c
    XRANGE c - +
    XPENDING c g
    EXISTS b
    DBSIZE
    XADD b 1-0 n 1
    RENAMENX c d
    XLEN d
    MULTI
    XADD d 7-0 n 7
    RENAME d e
    XRANGE e - +
    XADD e 8-0 n 8
    RENAME e b
    XREVRANGE b + -
    XRANGE d - +
    XREADGROUP GROUP g bob STREAMS b >
    RENAMENX b e
    RENAME e b
    EXISTS b d e
    EXEC
    XRANGE b - +
    XPENDING b g
    DEL b
    RENAME b c
"#;

const SETTING_IDS: &str = r#"
    XSETID
    XSETID s
    XSETID s x
    XSETID missing x
    XSETID missing 1-1
    XSETID missing 1-0 ENTRIESADDED -1
    XSETID missing 1-0 MAXDELETEDID 5-0
    XSETID missing 1-0 NONSENSE
    XADD s 1-0 n 1
    XADD s 5-0 n 5
    XADD s 9-0 n 9
    XGROUP CREATE s begun 0
    XREADGROUP GROUP begun alice COUNT 1 STREAMS s >
    XSETID s 8-0
    XSETID s 0-0
    XSETID s 9-0
    XSETID s 9-5 ENTRIESADDED 2 MAXDELETEDID 3-0
    XSETID s 10-5 ENTRIESADDED 7
    XINFO STREAM s
    XINFO GROUPS s
    XREADGROUP GROUP begun alice COUNT 1 STREAMS s >
    XINFO GROUPS s
    XADD s 10-5 n 10
    XADD s 10-* n 10
    XINFO GROUPS s
    XREADGROUP GROUP begun alice STREAMS s >
    XINFO GROUPS s
    XSETID s 11-0 ENTRIESADDED 7 MAXDELETEDID 30-0
    XSETID s 11-0 ENTRIESADDED x MAXDELETEDID 10-0
    XSETID s 11-0 ENTRIESADDED
    XSETID s 11-0 MAXDELETEDID
    XSETID s 11-0 maxdeletedid 3-0 entriesadded 8
    XSETID s 11-0 ENTRIESADDED 8 ENTRIESADDED 9
    XSETID s 11-0 MAXDELETEDID 0-0
    XINFO STREAM s
    XGROUP CREATE s late $
    XGROUP CREATE s fresh 0
    XGROUP CREATE s between 10-7
    XINFO GROUPS s
    XREADGROUP GROUP late bob STREAMS s >
    XREAD STREAMS s $
    XADD s 11-0 n 11
    XADD s 11-1 n 11
    XREADGROUP GROUP late bob STREAMS s >
    XREADGROUP GROUP fresh bob COUNT 2 STREAMS s >
    XREADGROUP GROUP between bob STREAMS s >
    XINFO GROUPS s
    XSETID s 12-0 MAXDELETEDID 9-0
    XINFO GROUPS s
    XREADGROUP GROUP fresh bob COUNT 2 STREAMS s >
    XINFO GROUPS s
    XDEL s 11-1
    XINFO STREAM s
    XTRIM s MAXLEN 0
    XSETID s 20-0 ENTRIESADDED 0
    XADD s 20-0 n 20
    XADD s 20-1 n 20
    XREADGROUP GROUP fresh bob STREAMS s >
    XINFO STREAM s
    MULTI
    XSETID s 30-0 ENTRIESADDED 50
    XADD s 29-0 n 29
    XADD s 30-* n 30
    XINFO STREAM s
    XSETID s 40-0
    XREADGROUP GROUP late bob STREAMS s >
    EXEC
    XINFO STREAM s
    XGROUP CREATE made g $ MKSTREAM
    XSETID made 5-0 ENTRIESADDED 3 MAXDELETEDID 5-0
    XADD made 5-0 a 1
    XADD made 5-1 a 1
    XREADGROUP GROUP g alice STREAMS made >
    XINFO STREAM made
    XINFO GROUPS made
"#;

const EXPIRING: &str = r#"
    EXPIRE
    EXPIRE s
    EXPIRE s x
    EXPIRE s x NONSENSE
    EXPIRE missing 10 NONSENSE
    EXPIRE missing 9223372036854775807
    EXPIRE missing 10
    TTL missing
    PTTL missing
    EXPIRETIME missing
    PEXPIRETIME missing
    PERSIST missing
    TTL s a
    XADD s 1-0 a 1
    TTL s
    PTTL s
    PEXPIRETIME s
    EXPIRE s 9223372036854775807
    PEXPIRE s 9223372036854775807
    EXPIREAT s 9223372036854775807
    EXPIRE s -9223372036854775808
    PEXPIREAT s 9223372036854775807
    PEXPIRETIME s
    EXPIRETIME s
    PERSIST s
    PERSIST s
    TTL s
    EXPIRE s 10 XX
    EXPIRE s 10 GT
    EXPIRE s 10 nx
    EXPIRE s 10 NX
    EXPIRE s 100 LT
    EXPIRE s 5 GT
    EXPIRE s 5 LT XX
    EXPIRE s 5 NX XX
    EXPIRE s 5 NX GT
    EXPIRE s 5 GT LT
    EXPIRE s 5 GT NONSENSE
    EXPIRE s 500
    TTL s
    EXPIREAT s 5000000000
    EXPIRETIME s
    PEXPIREAT s 5000000000499
    EXPIRETIME s
    PEXPIREAT s 5000000000500
    EXPIRETIME s
    XADD s 2-0 a 1
    PEXPIRETIME s
    RENAME s t
    EXPIRETIME t
    XADD o 1-0 a 1
    RENAME o t
    EXPIRETIME t
    EXPIREAT t 1
    EXISTS t
    XRANGE t - +
    XADD t 1-0 a 1
    EXPIRE t -1
    EXISTS t
    XADD t 1-0 a 1
    PEXPIRE t 0 GT
    EXISTS t
    PEXPIRE t 0 LT
    EXISTS t
    MULTI
    XADD t 1-0 a 1
    EXPIRE t 100
    TTL t
    PERSIST t
    EXPIRE t 0
    EXISTS t
    XADD t 1-0 a 1
    TTL t
    PEXPIREAT t 5000000000500
    EXEC
    EXPIRETIME t
    DEL t
    XADD t 1-0 a 1
    TTL t
"#;
