//! Explains the evidence of a link: a sentence for each piece, and one for the confidence.

use crate::model::{Confidence, Evidence, Link, LinkKind};

pub(super) fn known(link: &Link) -> Vec<String> {
    let proofs = link.evidence.iter().map(|evidence| proof(*evidence, link.kind));
    proofs.chain([sureness(link.confidence)]).map(str::to_owned).collect()
}

const fn proof(evidence: Evidence, kind: LinkKind) -> &'static str {
    match evidence {
        Evidence::SocketPair => {
            "The kernel has both ends: the addresses of the one are those of the other, turned around, in the same network."
        }
        Evidence::Isn => {
            "Both ends have the same initial sequence numbers, the client's and the server's. The kernels choose them anew for \
             each connection, and address translation does not change them."
        }
        Evidence::UnixPeer => "Each end names the inode of the other, so the two are one connection.",
        Evidence::Goroutine => match kind {
            LinkKind::Relay => {
                "The same goroutine received on the one connection and then connected or wrote to the other. The kernel \
                 saves the processor's registers at each system call, and one of them names the goroutine."
            }
            LinkKind::Tcp | LinkKind::Unix | LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec => {
                "The goroutine that served the session's stream is the one that did this. The kernel saves the \
                 processor's registers at each system call, and one of them names the goroutine."
            }
        },
        Evidence::Creator => {
            "Goroutines that were started by the same goroutine touched these two connections and no other. Programs that \
             translate between two protocols work like that: no single goroutine copies there."
        }
        Evidence::Memory => {
            "Nothing moved when it was looked at. In the memory of the process the goroutine that waits for the one leads \
             by pointers to the other; both were checked against the kernel's own numbers."
        }
        Evidence::Thread => {
            "One thread touched both. Threads can serve several sessions by turns, so this proves less than a goroutine."
        }
        Evidence::ByteFlow => "As many bytes came out of the one as went into the other.",
        Evidence::ExecId => "Both carry the same exec id, which the runtime gave to this exec and to no other.",
        Evidence::RuncArgs => "The arguments of runc name the container and the exec id.",
        Evidence::PidFile => "The runtime's pid file, which is named by the exec id, holds the pid of this process.",
        Evidence::Cgroup => "The cgroup of the process names the container.",
        Evidence::Fork => "The kernel says so: the one is a child of the other, or was made by a child of it.",
        Evidence::Fifo => "Both have the same FIFO open.",
        Evidence::Pty => "Both have the same terminal open.",
        Evidence::Token => "Both name the same token of the stream.",
        Evidence::Listener => {
            "The process listens at this address and serves other connections there. It has not accepted this one."
        }
        Evidence::Time => "The one came right after the other.",
    }
}

const fn sureness(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Exact => "That is exact: an identity proves it.",
        Confidence::Strong => {
            "That is strong, not exact: signs agree and nothing else fits, but no identity proves it."
        }
        Confidence::Weak => "That is weak: the order in time suggests it, and it may be wrong.",
    }
}
