//! Promises that tests break on purpose, to see that the layer of tests which guards them tells. Only the `testing`
//! feature can plant one; without it [`Faults`] has no content and every question for one is `false`.

/// A layer of tests that guards promises.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Crashes and failing operations on the simulated disk: `tests/crash.rs`.
    Crash,
    /// Damage to stored bytes: `tests/stored.rs`.
    Damage,
    /// Random programs beside a naive model: `tests/model.rs`.
    Model,
    /// Bytes that reclaim leaves: `tests/engine/reclaim.rs`.
    Reclaim,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $layer:ident,)*) => {
        /// A promise that is broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        #[cfg(any(test, feature = "testing"))]
        impl Fault {
            /// Those that a layer has to tell of; each has one. What a layer lets pass fails its test of them.
            pub fn of(layer: Layer) -> impl Iterator<Item = Self> {
                let all = [$((Self::$name, Layer::$layer)),*];
                all.into_iter().filter(move |(_, its)| *its == layer).map(|(fault, _)| fault)
            }
        }
    };
}

faults! {
    /// `sync` answers without syncing.
    SkipSync => Crash,
    /// Answers leave before the sync.
    AnswerBeforeSync => Crash,
    /// Readers see entries before the sync.
    ShowBeforeSync => Crash,
    /// A sync that failed is tried again, and trusted when it succeeds.
    RetrySync => Crash,
    /// Names are not made durable.
    ForgetFolderSync => Crash,
    /// Files that were given up are removed before a snapshot is beyond them.
    RemoveFilesEarly => Crash,
    /// Each request of a transaction has a commit of its own.
    SplitTransactions => Crash,
    /// Contents are not checked against their checksums.
    SkipChecksum => Damage,
    /// The first bad frame is taken for the end of the log, whatever comes after it.
    CutAtFirstBadFrame => Damage,
    /// A start from a checkpoint does not know which ids were given out.
    ReuseIds => Model,
    /// A checkpoint lacks a pending entry of each group.
    LosePending => Model,
    /// A checkpoint lacks what is remembered against duplicates.
    ForgetDuplicates => Model,
    /// A checkpoint lacks what was deleted singly.
    ForgetDeletes => Model,
    /// An acknowledgement is answered and not written.
    ForgetAcknowledgements => Model,
    /// Replay takes deliveries for as old as the start, not as old as the log says.
    ReplayByTheClock => Model,
    /// Replay counts each delivery twice.
    CountDeliveriesTwice => Model,
    /// A redrive moves the group's cursor back.
    MoveCursorOnRedrive => Model,
    /// Rewriting a file keeps the entries that were deleted from it.
    KeepDeletedAtReclaim => Reclaim,
}

/// The fault that is planted, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    #[cfg(any(test, feature = "testing"))]
    planted: Option<Fault>,
}

impl Faults {
    /// This one alone.
    #[cfg(any(test, feature = "testing"))]
    pub fn plant(fault: Fault) -> Self {
        Self { planted: Some(fault) }
    }

    /// Whether this one is planted.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn has(self, fault: Fault) -> bool {
        self.planted == Some(fault)
    }
    /// Whether this one is planted: no.
    #[cfg(not(any(test, feature = "testing")))]
    pub(crate) fn has(self, _fault: Fault) -> bool {
        false
    }
}
