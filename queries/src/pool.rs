//! The memory pool: DataFusion's fair one, with a bound on what one merge of spilled runs may take.
//!
//! A sort that spilled reserves room for as many of its runs as the pool has left, and gives none of it back until
//! it ends. Several at once, one a partition, then starve whatever reads them, and a query fails that needs little.
//! Refused, a merge takes fewer runs at a time and one round more.
//!
//! A merge of rows in memory cannot take fewer: it needs about as much as the sort holds. So a sort may hold no more
//! than a merge may take, three quarters of the memory over the threads; refused, it spills. A first batch is never
//! refused for that: there is nothing to spill yet, and one batch is not merged.

use std::fmt::{self, Display, Formatter};
use std::num::NonZeroUsize;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
};

/// DataFusion's name of a merge of spilled runs; the partition follows in brackets.
const MERGE: &str = "ExternalSorterMerge";
/// DataFusion's name of what sorts and spills.
const SORT: &str = "ExternalSorter[";
/// Consumers that an error about memory names.
const NAMED_IN_ERRORS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// A fair pool in which all merges together leave a quarter of the memory to others, and sorts hold what they can merge.
#[derive(Debug)]
pub(crate) struct Pool {
    inner: TrackConsumersPool<FairSpillPool>,
    merge_limit: usize,
}

impl Pool {
    /// A pool of `memory` bytes for plans of `threads` partitions.
    pub(crate) fn new(memory: usize, threads: usize) -> Self {
        Self {
            inner: TrackConsumersPool::new(FairSpillPool::new(memory), NAMED_IN_ERRORS),
            merge_limit: memory / 4 * 3 / threads.max(1),
        }
    }
}

impl MemoryPool for Pool {
    fn name(&self) -> &str {
        "pgtrace"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let wanted = reservation.size().saturating_add(additional);
        let name = reservation.consumer().name();
        let sort = name.starts_with(SORT) && reservation.size() > 0;
        if wanted > self.merge_limit && (name.starts_with(MERGE) || sort) {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{name} may hold {} bytes, asked for {wanted}",
                self.merge_limit
            )));
        }
        self.inner.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.inner.memory_limit()
    }
}

impl Display for Pool {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_sort_holds_what_its_merge_may_take() {
        let pool: Arc<dyn MemoryPool> = Arc::new(Pool::new(1000, 1));
        let sort = MemoryConsumer::new(format!("{SORT}0]"))
            .with_can_spill(true)
            .register(&pool);
        sort.try_grow(750).unwrap();
        assert!(sort.try_grow(1).is_err());
        sort.free();
        sort.try_grow(900).unwrap();
        assert!(sort.try_grow(1).is_err());
    }

    #[test]
    fn merges_leave_a_quarter_to_others() {
        let pool: Arc<dyn MemoryPool> = Arc::new(Pool::new(1000, 2));
        let merges = [0, 1].map(|i| MemoryConsumer::new(format!("{MERGE}[{i}]")).register(&pool));
        for merge in &merges {
            assert!(merge.try_grow(376).is_err());
            merge.try_grow(375).unwrap();
            assert!(merge.try_grow(1).is_err());
        }
        let reader = MemoryConsumer::new("SortPreservingMergeExec[0]").register(&pool);
        reader.try_grow(250).unwrap();
        assert!(reader.try_grow(1).is_err(), "the pool's own limit holds");
    }
}
