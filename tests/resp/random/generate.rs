//! Random programs of stream commands over three keys, two groups and three consumers, well formed for the most part.

use crate::random::Step;

/// Numbers that look random, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn one(&mut self, of: &[&str]) -> String {
        of[self.below(of.len() as u64) as usize].into()
    }
}

/// Makes programs: it knows about where the ids are that it has given out.
struct Maker {
    random: Random,
    ms: u64,
}

/// A program of about so many commands.
pub(crate) fn program(seed: u64, count: usize) -> Vec<Step> {
    let mut maker = Maker { random: Random::new(seed), ms: 1 };
    (0..count).map(|_| maker.step()).collect()
}

impl Maker {
    fn step(&mut self) -> Step {
        let client = self.random.below(3) as usize;
        let lines = match self.random.below(100) {
            0..4 => {
                let inside = 1 + self.random.below(4);
                let commands: Vec<String> = (0..inside).flat_map(|_| self.command()).collect();
                [vec!["MULTI".into()], commands, vec![self.random.one(&["EXEC", "EXEC", "EXEC", "DISCARD"])]].concat()
            }
            4..12 => self.blocking(),
            12..15 => self.broken(),
            _ => self.command(),
        };
        Step { client, lines }
    }

    fn key(&mut self) -> String {
        self.random.one(&["a", "a", "b", "c"])
    }
    fn group(&mut self) -> String {
        self.random.one(&["g", "g", "h"])
    }
    fn consumer(&mut self) -> String {
        self.random.one(&["x", "x", "y", "z"])
    }

    /// An id that was given out, or nearly.
    fn id(&mut self) -> String {
        let back = self.random.below(40.min(self.ms));
        format!("{}-{}", self.ms - back, self.random.below(3))
    }
    fn ids(&mut self) -> String {
        let count = 1 + self.random.below(4);
        (0..count).map(|_| self.id()).collect::<Vec<_>>().join(" ")
    }

    fn command(&mut self) -> Vec<String> {
        let (k, g, c) = (self.key(), self.group(), self.consumer());
        let line = match self.random.below(200) {
            0..55 => self.add(&k),
            55..60 => format!("XLEN {k}"),
            60..70 => self.range(&k),
            70..78 => self.read(&k),
            78..88 => format!("XGROUP CREATE {k} {g} {} {}", self.start(), self.random.one(&["MKSTREAM", ""])),
            88..92 => format!("XGROUP SETID {k} {g} {}", self.start()),
            92..93 => format!("XGROUP DESTROY {k} {g}"),
            93..95 => format!("XGROUP CREATECONSUMER {k} {g} {c}"),
            95..97 => format!("XGROUP DELCONSUMER {k} {g} {c}"),
            97..125 => return self.read_group(&k, &g, &c),
            125..137 => format!("XACK {k} {g} {}", self.ids()),
            137..145 => self.pending(&k, &g),
            145..155 => return vec![Self::made(&k, &g, &c), self.claim(&k, &g, &c)],
            155..163 => {
                let claim =
                    format!("XAUTOCLAIM {k} {g} {c} {} {}", self.idle(), self.random.one(&["-", "0", "(3-1", "5"]));
                let options = self.random.one(&["", "COUNT 1", "COUNT 3", "JUSTID", "COUNT 2 JUSTID"]);
                return vec![Self::made(&k, &g, &c), format!("{claim} {options}")];
            }
            163..172 => format!("XINFO STREAM {k} FULL COUNT {}", self.random.below(6)),
            172..175 => format!("XINFO STREAM {k}"),
            175..177 => format!("XINFO CONSUMERS {k} {g}"),
            177..185 => self.remove(&k),
            185..192 => self.trim(&k),
            192..194 => format!("EXISTS {k} a"),
            194..195 => format!("TYPE {k}"),
            195..196 => format!("DEL {k}"),
            196..197 => "DBSIZE".into(),
            197..199 => self.set_id(&k),
            _ => self.random.one(&["FLUSHALL", "PING", "ECHO hello", "PING", "ECHO x"]),
        };
        vec![line]
    }

    fn add(&mut self, k: &str) -> String {
        self.ms += self.random.below(3);
        let id = match self.random.below(20) {
            0 => self.id(),
            1 => self.random.one(&["0-0", "0", "abc", "-", "5-", "18446744073709551616-0"]),
            2..5 => format!("{}-*", self.ms),
            _ => format!("{}-{}", self.ms, self.random.below(6)),
        };
        let options = match self.random.below(20) {
            0 => "NOMKSTREAM".into(),
            // What is trimmed at once wakes nobody here, and with nothing in version 7.0.
            1 if k != "c" => format!("MAXLEN {}", 1 + self.random.below(30)),
            2 if k != "c" => format!("MINID = {}", self.ms.saturating_sub(10)),
            3 if k == "c" => format!("MAXLEN ~ {}", 1 + self.random.below(30)),
            _ => String::new(),
        };
        let pairs = 1 + self.random.below(3);
        let pairs: String = (0..pairs).map(|n| format!(" f{n} {}", self.random.below(1000))).collect();
        format!("XADD {k} {options} {id}{pairs}")
    }

    fn range(&mut self, k: &str) -> String {
        let (name, mut ends) = ("XRANGE", [self.end("-"), self.end("+")]);
        let name = if self.random.chance(50) {
            ends.swap(0, 1);
            "XREVRANGE"
        } else {
            name
        };
        let count = self.random.one(&["", "", "COUNT 1", "COUNT 5", "COUNT 0"]);
        format!("{name} {k} {} {} {count}", ends[0], ends[1])
    }

    fn end(&mut self, open: &str) -> String {
        match self.random.below(5) {
            0 => format!("({}", self.id()),
            1 => self.id(),
            2 => self.random.below(self.ms + 1).to_string(),
            _ => open.into(),
        }
    }

    fn start(&mut self) -> String {
        match self.random.below(4) {
            0 => "$".into(),
            1 => self.id(),
            _ => "0".into(),
        }
    }

    fn read(&mut self, k: &str) -> String {
        let count = self.random.one(&["", "COUNT 2", "COUNT 10"]);
        let (other, after) = (self.key(), self.random.one(&["0", "$"]));
        if self.random.chance(30) {
            return format!("XREAD {count} STREAMS {k} {other} {} {after}", self.id());
        }
        format!("XREAD {count} STREAMS {k} {}", self.id())
    }

    /// Version 7.0 makes a consumer only where it gets or claims something: here it is made before.
    fn made(k: &str, g: &str, c: &str) -> String {
        format!("XGROUP CREATECONSUMER {k} {g} {c}")
    }

    fn read_group(&mut self, k: &str, g: &str, c: &str) -> Vec<String> {
        let options = self.random.one(&["", "COUNT 1", "COUNT 2", "COUNT 5", "NOACK", "COUNT 2 NOACK"]);
        let from = |random: &mut Random| random.one(&[">", ">", ">", "0", "2-1"]);
        if self.random.chance(15) {
            let (other, first, second) = (self.key(), from(&mut self.random), from(&mut self.random));
            let read = format!("XREADGROUP GROUP {g} {c} {options} STREAMS {k} {other} {first} {second}");
            return vec![Self::made(k, g, c), Self::made(&other, g, c), read];
        }
        let read = format!("XREADGROUP GROUP {g} {c} {options} STREAMS {k} {}", from(&mut self.random));
        vec![Self::made(k, g, c), read]
    }

    fn blocking(&mut self) -> Vec<String> {
        let (k, g, c) = (self.key(), self.group(), self.consumer());
        // Version 7.0 does not look at a key twice.
        let other = if k == "b" { "a" } else { "b" };
        let count = self.random.one(&["", "COUNT 1", "COUNT 3"]);
        let read = match self.random.below(4) {
            0 => return vec![format!("XREAD {count} BLOCK 0 STREAMS {k} $")],
            1 => return vec![format!("XREAD {count} BLOCK 0 STREAMS {k} {other} $ {}", self.ms)],
            2 => format!("XREADGROUP GROUP {g} {c} {count} BLOCK 0 STREAMS {k} {other} > >"),
            _ => format!("XREADGROUP GROUP {g} {c} {count} BLOCK 0 STREAMS {k} >"),
        };
        vec![Self::made(&k, &g, &c), Self::made(other, &g, &c), read]
    }

    fn idle(&mut self) -> String {
        self.random.one(&["0", "0", "0", "100000000"])
    }

    fn pending(&mut self, k: &str, g: &str) -> String {
        match self.random.below(4) {
            0 => format!("XPENDING {k} {g}"),
            1 => format!("XPENDING {k} {g} - + {} {}", 1 + self.random.below(9), self.consumer()),
            2 => format!("XPENDING {k} {g} IDLE {} {} + 5", self.idle(), self.end("-")),
            _ => format!("XPENDING {k} {g} {} {} 10", self.end("-"), self.end("+")),
        }
    }

    fn claim(&mut self, k: &str, g: &str, c: &str) -> String {
        let mut ids: Vec<String> = self.ids().split(' ').map(str::to_owned).collect();
        ids.sort();
        ids.dedup();
        let mut options = String::new();
        for (percent, option) in [
            (20, "JUSTID"),
            (20, "FORCE"),
            (15, "RETRYCOUNT 7"),
            (10, "IDLE 5000"),
            (5, "TIME 1000"),
            (5, "RETRYCOUNT 0"),
            (5, "LASTID 9-1"),
        ] {
            if self.random.chance(percent) {
                options += &format!(" {option}");
            }
        }
        format!("XCLAIM {k} {g} {c} {} {}{options}", self.idle(), ids.join(" "))
    }

    /// Approximate trims are compared where they meet whole nodes only: on `c`, of which nothing else goes.
    fn remove(&mut self, k: &str) -> String {
        let k = if k == "c" { "b" } else { k };
        format!("XDEL {k} {}", self.ids())
    }

    fn trim(&mut self, k: &str) -> String {
        let k = if k == "c" { "b" } else { k };
        match self.random.below(4) {
            0 => format!("XTRIM {k} MINID {}", self.id()),
            1 => format!("XTRIM {k} MAXLEN = {}", self.random.below(40)),
            2 => format!("XTRIM c MAXLEN ~ {} {}", self.random.below(40), self.random.one(&["", "LIMIT 6", "LIMIT 0"])),
            _ => format!("XTRIM c MINID ~ {}", self.id()),
        }
    }

    /// Above every id that was given out: nothing lowers a last id here.
    fn set_id(&mut self, k: &str) -> String {
        self.ms += 1;
        let deleted = if self.random.chance(30) { format!("MAXDELETEDID {}", self.id()) } else { String::new() };
        format!("XSETID {k} {}-9 {deleted}", self.ms)
    }

    /// A command with a word left out, put in, or in the place of another; what belongs before it comes as it is.
    fn broken(&mut self) -> Vec<String> {
        let mut lines = self.command();
        let line = lines.pop().unwrap_or_default();
        let mut words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let at = 1 + self.random.below(words.len() as u64) as usize;
        let odd = self.random.one(&["abc", "-1", "(", "99999999999999999999", "COUNT", "~", "LIMIT", "1-1-1"]);
        match self.random.below(3) {
            0 => words.truncate(at),
            1 => words.insert(at, &odd),
            _ => {
                words.truncate(at);
                words.push(&odd);
            }
        }
        // What lists of streams lack is told in the words of later versions.
        let line = if line.contains("STREAMS") { "XREAD COUNT x STREAMS a 0".into() } else { words.join(" ") };
        lines.push(line);
        lines
    }
}
