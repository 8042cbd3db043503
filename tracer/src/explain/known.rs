//! Explains the evidence of a link: a sentence for each piece, and one for the confidence.

use crate::model::{Confidence, Evidence, Link, LinkKind};

pub(super) fn known(link: &Link) -> Vec<String> {
    let proofs = link.evidence.iter().map(|evidence| proof(*evidence, link.kind));
    proofs.chain([sureness(link.confidence)]).map(str::to_owned).collect()
}

const fn proof(evidence: Evidence, kind: LinkKind) -> &'static str {
    match evidence {
        Evidence::SocketPair => {
            "The kernel lists both ends: they have the same two addresses, mirrored, in the same network namespace."
        }
        Evidence::Isn => {
            "Both ends have the same two initial sequence numbers, the client's and the server's. Kernels choose new \
             ones for each connection, and address translation does not change them."
        }
        Evidence::UnixPeer => "Each end names the inode of the other, so the two are one connection.",
        Evidence::Goroutine => match kind {
            LinkKind::Relay => {
                "The same goroutine read from one connection, then opened or wrote to the other. The kernel saves the \
                 processor's registers at each system call, and one of them identifies the goroutine."
            }
            LinkKind::Tcp | LinkKind::Unix | LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec => {
                "The goroutine that served the session's stream performed this step. The kernel saves the processor's \
                 registers at each system call, and one of them identifies the goroutine."
            }
        },
        Evidence::Creator => {
            "Goroutines started by the same goroutine used these two connections and no others. Programs that \
             translate between two protocols work this way: no single goroutine copies the bytes."
        }
        Evidence::Memory => {
            "The session was idle when execpath inspected it. In the memory of the process, pointers lead from the \
             goroutine that waits for one connection to the other connection. Both were checked against the kernel's \
             own data."
        }
        Evidence::Thread => {
            "The same thread used both. A thread can serve several sessions in turn, so this is weaker evidence than \
             a goroutine."
        }
        Evidence::ByteFlow => "As many bytes came out of one as went into the other.",
        Evidence::ExecId => "Both carry the same exec id, which the runtime gave to this exec and to no other.",
        Evidence::RuncArgs => "The arguments of runc name the container and the exec id.",
        Evidence::PidFile => "The runtime's pid file, which is named by the exec id, holds the pid of this process.",
        Evidence::Cgroup => "The cgroup of the process names the container.",
        Evidence::Fork => "The kernel reported the fork: one is a child of the other, or was created by such a child.",
        Evidence::Fifo => "Both have the same FIFO open.",
        Evidence::Pty => "Both have the same terminal open.",
        Evidence::Token => "Both name the same token of the stream.",
        Evidence::Listener => {
            "The process listens at this address and serves other connections there. It has not accepted this one."
        }
        Evidence::Time => "One came right after the other.",
    }
}

const fn sureness(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Exact => "This link is exact: an identity proves it.",
        Confidence::Strong => {
            "This link is strong, not exact: signs agree and nothing else fits, but no identity proves it."
        }
        Confidence::Weak => "This link is weak: only the order in time suggests it, and it may be wrong.",
    }
}
