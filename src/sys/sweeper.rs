//! Removing trees beside the work: on most file systems that waits for the journal, and nobody waits for its end.

use super::fs;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Removes trees on a thread of its own, which starts with the first one. Dropped, it waits until all are gone.
#[derive(Debug, Default)]
pub struct Sweeper(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    queue: Sender<Tree>,
    thread: JoinHandle<()>,
}

/// A directory and a name in it.
type Tree = (OwnedFd, Vec<u8>);

impl Sweeper {
    /// Removes `name` and everything below it some time soon. What cannot be removed stays.
    pub fn remove(&self, dir: OwnedFd, name: &[u8]) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = start();
        }
        let tree = (dir, name.to_vec());
        match &*running {
            Some(running) => {
                if let Err(unsent) = running.queue.send(tree) {
                    sweep(&unsent.0);
                }
            }
            None => sweep(&tree),
        }
    }
}

fn start() -> Option<Running> {
    let (queue, trees) = channel::<Tree>();
    let work = move || trees.iter().for_each(|tree| sweep(&tree));
    let thread = thread::Builder::new().name("sweeper".to_owned()).spawn(work).ok()?;
    Some(Running { queue, thread })
}

fn sweep((dir, name): &Tree) {
    let _left = fs::remove_tree(dir, name);
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        let running = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { queue, thread }) = running {
            drop(queue);
            // A panic was reported by the panic hook.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_gone_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let sweeper = Sweeper::default();
        for number in 0..20 {
            let name = format!("tree{number}");
            std::fs::create_dir_all(dir.path().join(&name).join("a/b")).unwrap();
            std::fs::write(dir.path().join(&name).join("a/b/file"), "x").unwrap();
            sweeper.remove(fs::open_dir_path(dir.path()).unwrap(), name.as_bytes());
        }
        sweeper.remove(fs::open_dir_path(dir.path()).unwrap(), b"never there");
        drop(sweeper);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_who_remove_the_same_tree_both_succeed() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::open_dir_path(dir.path()).unwrap();
        for _ in 0..50 {
            for number in 0..20 {
                std::fs::create_dir_all(dir.path().join(format!("tree/{number}/a/b"))).unwrap();
            }
            thread::scope(|scope| {
                let both = [(); 2].map(|()| scope.spawn(|| fs::remove_tree(&root, b"tree")));
                for one in both {
                    one.join().unwrap().unwrap();
                }
            });
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
