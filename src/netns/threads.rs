//! Work that is shared out among threads that may enter namespaces, because they die afterwards.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

/// How many threads of this machine get on at once: the kernel's own locks let few do so.
pub fn most_threads() -> usize {
    const MOST: usize = 4;
    /// Asked once: it takes a dozen files of the control groups.
    static ANSWER: OnceLock<usize> = OnceLock::new();
    *ANSWER.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(MOST))
}

/// Runs `work` over `items` in parts on a few threads; the answers are in the order of the items. `work` is told at
/// which place its part begins. Parts are small, and whoever is done takes the next: a node's own namespace takes as
/// long as dozens of pods.
///
/// # Errors
/// When the thread limit is reached.
pub fn on_threads_that_die<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(usize, &[I]) -> Vec<T> + Sync,
) -> io::Result<Vec<T>> {
    /// Below this a thread costs more than it saves.
    const FEWEST: usize = 32;
    const PARTS_A_THREAD: usize = 16;
    let threads = items.len().div_ceil(FEWEST).min(most_threads());
    let size = if threads > 1 { items.len() / (threads * PARTS_A_THREAD) } else { items.len() }.max(1);
    let mut parts = items.chunks(size).enumerate();
    let answers = share_out(threads, || parts.next(), |(at, part)| work(at * size, part))?;
    let mut all = Vec::with_capacity(items.len());
    answers.into_iter().for_each(|part| all.extend(part));
    Ok(all)
}

/// Runs `work` on so many threads over the parts that `next` gives out, one call at a time; the answers are in the
/// order of the parts.
///
/// # Errors
/// When the thread limit is reached.
pub fn share_out<P, T: Send>(
    threads: usize,
    next: impl FnMut() -> Option<P> + Send,
    work: impl Fn(P) -> T + Sync,
) -> io::Result<Vec<T>> {
    let left = Mutex::new((0usize.., next));
    let take = || {
        let (numbers, next) = &mut *left.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.next().zip(next())
    };
    let until_none_is_left = || -> Vec<(usize, T)> {
        std::iter::from_fn(take).map(|(number, part)| (number, work(part))).collect()
    };
    let mut answers = std::thread::scope(|scope| {
        let spawn = |_| {
            let named = std::thread::Builder::new().name("netns".into());
            named.spawn_scoped(scope, until_none_is_left)
        };
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        let mut answers = Vec::new();
        for thread in threads {
            answers.extend(thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        Ok::<_, io::Error>(answers)
    })?;
    answers.sort_unstable_by_key(|&(number, _)| number);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_items_and_each_once() {
        for count in [0usize, 1, 31, 32, 33, 250, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let seen = on_threads_that_die(&items, |first, part| {
                assert_eq!(part.first(), Some(&first), "{count}");
                part.to_vec()
            });
            assert_eq!(seen.unwrap_or_default(), items);
        }
    }

    #[test]
    fn parts_are_given_out_until_none_is_left() {
        let mut left = 0..100;
        let seen = share_out(3, || left.next(), |part| part * 2);
        assert_eq!(seen.unwrap_or_default(), (0..100).map(|part| part * 2).collect::<Vec<_>>());
    }
}
