//! Hash table for entries that are looked up far more often than iterated.

use foldhash::fast::FixedState;
use indexmap::IndexMap;

/// Hash table with an order that depends on insertions and removals alone. Findings must not depend on random
/// hash seeds. Remove with `swap_remove`, which leaves the other entries in place.
pub(in crate::correlate) type Table<K, V> = IndexMap<K, V, FixedState>;
