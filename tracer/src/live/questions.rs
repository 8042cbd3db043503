//! Questions of the correlator that wait for their answers.

use std::collections::VecDeque;

use crate::model::Want;

/// Capacity of the queue. The correlator asks each question once, so only slow answers fill it.
const MAX_QUEUED: usize = 20_000;

/// Queue of questions. Processes to be watched come first: their acts are not seen until then.
#[derive(Default)]
pub(super) struct Questions {
    watches: VecDeque<Want>,
    others: VecDeque<Want>,
}

/// Questions to answer next.
pub(super) enum Next {
    /// One question.
    One(Want),
    /// Questions about the other ends of connections: one scan of the host answers all of them.
    Peers(Vec<Want>),
}

impl Questions {
    /// Adds questions; returns the number refused for lack of room.
    pub(super) fn extend(&mut self, wants: Vec<Want>) -> u64 {
        let mut refused = 0;
        for want in wants {
            if matches!(want, Want::Watch(..)) {
                self.watches.push_back(want);
            } else if self.others.len() < MAX_QUEUED {
                self.others.push_back(want);
            } else {
                refused += 1;
            }
        }
        refused
    }

    /// Removes the next process to be watched.
    pub(super) fn next_watch(&mut self) -> Option<Want> {
        self.watches.pop_front()
    }

    /// Removes the next question, or all questions that one scan answers.
    pub(super) fn next(&mut self) -> Option<Next> {
        if let Some(watch) = self.next_watch() {
            return Some(Next::One(watch));
        }
        let first = self.others.pop_front()?;
        if !matches!(first, Want::Peer { .. }) {
            return Some(Next::One(first));
        }
        let mut peers = vec![first];
        self.others.retain(|want| {
            let is_peer = matches!(want, Want::Peer { .. });
            if is_peer {
                peers.push(want.clone());
            }
            !is_peer
        });
        Some(Next::Peers(peers))
    }

    /// Number of waiting questions.
    pub(super) fn len(&self) -> usize {
        self.watches.len() + self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TaskKey, Tuple, WatchAs};

    #[test]
    fn watches_go_first_and_peers_together() {
        let peer = |port| {
            let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
            Want::Peer { tuple: Tuple::new(address(port), address(9)), netns: None, isn: None }
        };
        let watch = Want::Watch(TaskKey::from_ticks(1, 1), WatchAs::Daemon);
        let mut questions = Questions::default();
        assert_eq!(questions.extend(vec![peer(1), Want::Pid(2), peer(3), watch.clone()]), 0);
        assert!(matches!(questions.next(), Some(Next::One(first)) if first == watch));
        assert!(matches!(questions.next(), Some(Next::Peers(both)) if both == [peer(1), peer(3)]));
        assert!(matches!(questions.next(), Some(Next::One(Want::Pid(2)))));
        assert!(questions.next().is_none());
    }

    #[test]
    fn queue_refuses_and_counts_excess() {
        let mut questions = Questions::default();
        let many = (0_u32..).take(MAX_QUEUED + 3).map(Want::Pid).collect();
        assert_eq!((questions.extend(many), questions.len()), (3, MAX_QUEUED));
    }
}
