//! Programs whose every reply must be that of Redis: a name, and a command a line.

pub(crate) const ALL: [(&str, &str); 7] = [
    ("adding", ADDING),
    ("ranges", RANGES),
    ("trimming", TRIMMING),
    ("reading", READING),
    ("groups", GROUPS),
    ("pending entries", PENDING),
    ("transactions and keys", TRANSACTIONS),
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
