//! A small number for each thread, which no other thread has while it lives: the owner of a number may write to the
//! place with that number without an atomic read-modify-write.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// How many threads at a time have their own number.
pub(crate) const EXCLUSIVE: usize = 64;

/// The number that all other threads share.
pub(crate) const SHARED: usize = EXCLUSIVE;

const UNKNOWN: usize = usize::MAX;

/// The free numbers, as bits.
///
/// The lock also hands over what was written under a number: the thread that returns it and the thread that takes it
/// next both hold the lock, so the second sees what the first wrote.
static FREE: Mutex<u64> = Mutex::new(u64::MAX);

const _: () = assert!(EXCLUSIVE == u64::BITS as usize);

thread_local! {
    /// Without a destructor, so that reading it is one load and works until the thread has ended.
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
    /// Returns the number when the thread ends.
    static OWNED: Owned = const { Owned(Cell::new(None)) };
}

struct Owned(Cell<Option<usize>>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(number) = self.0.take() {
            // Destructors that run after this one may still ask for the number.
            NUMBER.set(SHARED);
            give_back(number);
        }
    }
}

/// This thread's number: either one of `0..EXCLUSIVE`, which no other thread has then, or [`SHARED`].
#[inline]
pub(crate) fn current() -> usize {
    let number = NUMBER.get();
    if number == UNKNOWN { take() } else { number }
}

#[cold]
fn take() -> usize {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let number = free.trailing_zeros() as usize;
    if number < EXCLUSIVE {
        *free &= !(1 << number);
    }
    drop(free);
    let number = match number {
        SHARED => SHARED,
        _ if OWNED.try_with(|owned| owned.0.set(Some(number))).is_ok() => number,
        // The thread is ending, so nothing would return the number.
        _ => {
            give_back(number);
            SHARED
        }
    };
    NUMBER.set(number);
    number
}

fn give_back(number: usize) {
    *FREE.lock().unwrap_or_else(PoisonError::into_inner) |= 1 << number;
}

/// Held by tests that use up the numbers.
#[cfg(test)]
pub(crate) static ALONE: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    #[test]
    fn living_threads_have_different_numbers_and_leave_them_to_later_ones() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..3 {
            let threads = 2 * EXCLUSIVE;
            let all_have_one = Barrier::new(threads);
            let numbers: Vec<usize> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads)
                    .map(|_| {
                        scope.spawn(|| {
                            let number = current();
                            all_have_one.wait();
                            assert_eq!(current(), number);
                            number
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let exclusive: Vec<_> = numbers.into_iter().filter(|number| *number < SHARED).collect();
            assert_eq!(exclusive.len(), EXCLUSIVE);
            assert_eq!(exclusive.iter().collect::<HashSet<_>>().len(), EXCLUSIVE);
        }
    }
}
