//! Questions of the correlator that wait for their answers.

use std::collections::VecDeque;

use crate::model::Want;

/// Questions that wait at once. The correlator asks each question once, so more come only while answers take long.
const MOST: usize = 20_000;

/// A queue in which processes to be watched come first: what they do until then is not seen.
#[derive(Default)]
pub(super) struct Questions {
    watches: VecDeque<Want>,
    others: VecDeque<Want>,
}

/// What to do next.
pub(super) enum Next {
    /// One question.
    One(Want),
    /// Questions for the other ends of connections: one look at the host answers all of them.
    Peers(Vec<Want>),
}

impl Questions {
    /// Takes questions in; returns how many did not fit.
    pub(super) fn extend(&mut self, wants: Vec<Want>) -> u64 {
        let mut refused = 0;
        for want in wants {
            if matches!(want, Want::Watch(..)) {
                self.watches.push_back(want);
            } else if self.others.len() < MOST {
                self.others.push_back(want);
            } else {
                refused += 1;
            }
        }
        refused
    }

    /// The next process to be watched.
    pub(super) fn next_watch(&mut self) -> Option<Want> {
        self.watches.pop_front()
    }

    /// The next question, or the next ones that are answered together.
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

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.watches.len() + self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TaskKey, Tuple, WatchAs};

    #[test]
    fn watching_goes_first_and_peers_go_together() {
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
    fn excess_is_refused_and_counted() {
        let mut questions = Questions::default();
        let many = (0_u32..).take(MOST + 3).map(Want::Pid).collect();
        assert_eq!((questions.extend(many), questions.len()), (3, MOST));
    }
}
