//! A reply off the wire as a value, and what of it is compared.

/// A reply; a map is the flat list of its names and values, as in version 2 of the protocol.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
    Error(String),
    List(Vec<Value>),
}

impl Value {
    /// The value of a whole reply, as it came.
    pub(crate) fn parse(reply: &str) -> Self {
        let mut rest = reply;
        let value = take(&mut rest);
        assert!(rest.is_empty(), "{rest:?} after a reply");
        value
    }

    /// Leaves out what these names are of, and tells no times of deliveries.
    pub(crate) fn without(self, names: &[String]) -> Self {
        let Self::List(values) = self else { return self };
        let mut kept = Vec::new();
        let mut values = values.into_iter().peekable();
        while let Some(value) = values.next() {
            match &value {
                Self::Text(name) if names.contains(name) => drop(values.next()),
                Self::Text(name) if name == "pending" => {
                    kept.push(value);
                    kept.extend(values.next().map(timeless));
                }
                _ => kept.push(value.without(names)),
            }
        }
        Self::List(kept)
    }

    /// An extended XPENDING without how long ago the deliveries were.
    pub(crate) fn without_idle(self) -> Self {
        match self {
            Self::List(rows) => Self::List(rows.into_iter().map(|row| zeroed(row, 2)).collect()),
            other => other,
        }
    }
}

/// The list behind `pending`: rows of id, consumer, time and count, or of id, time and count.
fn timeless(value: Value) -> Value {
    let Value::List(rows) = value else { return value };
    let timeless = |row: Value| match &row {
        Value::List(parts) if parts.len() == 4 => zeroed(row, 2),
        _ => zeroed(row, 1),
    };
    Value::List(rows.into_iter().map(timeless).collect())
}

fn zeroed(row: Value, at: usize) -> Value {
    match row {
        Value::List(mut parts) if parts.len() > at && matches!(parts[at], Value::Int(_)) => {
            parts[at] = Value::Int(0);
            Value::List(parts)
        }
        other => other,
    }
}

fn take(rest: &mut &str) -> Value {
    let (line, after) = rest.split_once("\r\n").expect("a line");
    *rest = after;
    let (kind, text) = line.split_at(1);
    let count = || text.parse::<i64>().expect("a number");
    match kind {
        ":" => Value::Int(count()),
        "+" => Value::Text(text.into()),
        "-" => Value::Error(text.into()),
        "_" => Value::Null,
        "$" | "*" | "%" if count() < 0 => Value::Null,
        "$" => {
            let (bytes, after) = rest.split_at(count() as usize);
            *rest = after.strip_prefix("\r\n").expect("the end of a text");
            Value::Text(bytes.into())
        }
        "*" => Value::List((0..count()).map(|_| take(rest)).collect()),
        "%" => Value::List((0..2 * count()).map(|_| take(rest)).collect()),
        other => panic!("a reply of kind {other:?}"),
    }
}
