//! Usage in a snapshot.

use serde::{Deserialize, Serialize};
use tollgate_core::counting::TallyKind;
use tollgate_core::{Limit, Timestamp};

use super::{RoughLimit, SHORT, Usage};
use crate::memory::ring::Ring;
use crate::memory::slots::{SlotHolder, SlotSet};

/// The greatest exponent of a power of ten that fits into 64 bits.
const MAX_EXPONENT: u8 = 19;

/// [`Usage`] as a snapshot has it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::memory) enum SavedUsage {
    Short { exponent: u8, len: u8, limit: u8, idle_at_s: u32, ticks: [u32; SHORT] },
    Long { exponent: u8, limit: u8, idle_at_s: u32, ticks: Vec<u32> },
    Weighted { exponent: u8, limit: u8, idle_at_s: u32, entries: Vec<(u32, u64)> },
    Tally { kind: SavedKind, limit: u8, terms: u32, numbers: [u64; 2], idle_at_ns: u64 },
    Slots { limit: u8, holders: Vec<(u64, SlotHolder)> },
}

/// [`TallyKind`] as a snapshot has it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::memory) enum SavedKind {
    Counter,
    Bucket,
    Calendar,
}

impl Usage {
    /// How many entries it has: what copying it costs.
    pub(in crate::memory) fn entries(&self) -> usize {
        match self {
            Self::Short { .. } | Self::Tally { .. } => 1,
            Self::Long { ring, .. } => ring.len(),
            Self::Weighted { ring, .. } => ring.len(),
            Self::Slots { slots, .. } => slots.holders().len(),
        }
    }

    pub(in crate::memory) fn saved(&self) -> SavedUsage {
        match self {
            Self::Short { exponent, len, limit, idle_at_s, ticks } => SavedUsage::Short {
                exponent: *exponent,
                len: *len,
                limit: limit.0,
                idle_at_s: *idle_at_s,
                ticks: *ticks,
            },
            Self::Long { exponent, limit, idle_at_s, ring } => SavedUsage::Long {
                exponent: *exponent,
                limit: limit.0,
                idle_at_s: *idle_at_s,
                ticks: ring.low_entries().map(|(low, _)| low).collect(),
            },
            Self::Weighted { exponent, limit, idle_at_s, ring } => SavedUsage::Weighted {
                exponent: *exponent,
                limit: limit.0,
                idle_at_s: *idle_at_s,
                entries: ring.low_entries().collect(),
            },
            Self::Tally { kind, limit, terms, numbers, idle_at_ns } => SavedUsage::Tally {
                kind: match kind {
                    TallyKind::Counter => SavedKind::Counter,
                    TallyKind::Bucket => SavedKind::Bucket,
                    TallyKind::Calendar => SavedKind::Calendar,
                },
                limit: limit.0,
                terms: *terms,
                numbers: *numbers,
                idle_at_ns: *idle_at_ns,
            },
            Self::Slots { limit, slots } => {
                let holders = slots.holders().map(|(at, holder)| (at.as_ns(), holder)).collect();
                SavedUsage::Slots { limit: limit.0, holders }
            }
        }
    }

    /// `None` if no store wrote it.
    pub(in crate::memory) fn restored(saved: SavedUsage) -> Option<Self> {
        Some(match saved {
            SavedUsage::Short { exponent, len, limit, idle_at_s, ticks }
                if exponent <= MAX_EXPONENT && usize::from(len) <= SHORT =>
            {
                Self::Short { exponent, len, limit: RoughLimit(limit), idle_at_s, ticks }
            }
            SavedUsage::Long { exponent, limit, idle_at_s, ticks } if exponent <= MAX_EXPONENT => {
                let ring = Ring::from_entries(ticks.into_iter().map(|low| (low, 1)));
                Self::Long { exponent, limit: RoughLimit(limit), idle_at_s, ring }
            }
            SavedUsage::Weighted { exponent, limit, idle_at_s, entries }
                if exponent <= MAX_EXPONENT =>
            {
                let ring = Ring::from_entries(entries.into_iter());
                Self::Weighted { exponent, limit: RoughLimit(limit), idle_at_s, ring }
            }
            SavedUsage::Tally { kind, limit, terms, numbers, idle_at_ns } => {
                let kind = match kind {
                    SavedKind::Counter => TallyKind::Counter,
                    SavedKind::Bucket => TallyKind::Bucket,
                    SavedKind::Calendar => TallyKind::Calendar,
                };
                Self::Tally { kind, limit: RoughLimit(limit), terms, numbers, idle_at_ns }
            }
            SavedUsage::Slots { limit, holders } => {
                let mut slots = Box::<SlotSet>::default();
                for (expires_at, holder) in holders {
                    slots.take(holder, Timestamp::from_ns(expires_at));
                }
                Self::Slots { limit: RoughLimit(limit), slots }
            }
            _ => return None,
        })
    }

    /// Sees to it that `holder` has a slot of `limit` until `expires_at`, or none; not if the key is counted otherwise by now.
    pub(in crate::memory) fn restore_slot(
        &mut self,
        limit: &Limit,
        holder: SlotHolder,
        expires_at: Option<Timestamp>,
    ) {
        match self {
            Self::Slots { slots, .. } => slots.forget(holder),
            Self::Short { len: 0, .. } => {}
            _ => return,
        }
        if let Some(expires_at) = expires_at {
            self.take_slot(limit, holder, expires_at);
        }
    }
}
