//! `synapse bench`: one JSON object with every figure, whatever the load.

use serde_json::Value;

use crate::process::Server;

#[test]
fn every_load_reports_all_figures() {
    let server = Server::start();
    for (args, events) in [
        (&["publish", "--batch", "16", "--events", "1600"][..], 1_600),
        (&["publish", "--in-flight", "4", "--clients", "2", "--connections", "2", "--events", "400"], 400),
        (&["publish", "--mode", "unary", "--in-flight", "4", "--events", "100"], 100),
        (&["publish", "--rate", "2000", "--durability", "os", "--events", "200"], 200),
        (&["consume", "--clients", "2", "--idle-ms", "300"], 2_300),
        (&["end-to-end", "--rate", "1000", "--events", "200"], 200),
    ] {
        let flags = ["--seconds", "20", "--json"];
        let out = server.run(&[&["bench"], args, &flags[..]].concat()).ok();
        let report: Value = serde_json::from_str(&out).expect("one JSON object");
        assert_eq!(report["events"], events, "{args:?}: {out}");
        assert_eq!(report["errors"], 0, "{args:?}: {out}");
        for name in ["p50", "p90", "p99", "p999", "max"] {
            assert!(report["latency_us"][name].as_u64().is_some_and(|us| us > 0), "{args:?}: {name}: {out}");
        }
        for name in ["events_per_s", "bytes_per_s"] {
            assert!(report[name].as_f64().is_some_and(|rate| rate > 0.0), "{args:?}: {name}: {out}");
        }
    }
}
