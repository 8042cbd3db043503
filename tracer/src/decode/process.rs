//! Records of process life.

use tracer_common::{ExecFailed, Exit, Fork, Process, SENT_BY_PROCESS, SENT_FOR_MEMORY, Signalled, WatchClass};

use super::{
    common::{actor, some},
    sock,
};
use crate::model::{ExitStatus, Fact, ProcessInfo, RawText, SentBy, Signal, TaskKey, WatchAs};

pub(super) fn fork(record: &Fork) -> Fact {
    Fact::Fork {
        child: TaskKey::from_ns(record.child_tgid, record.child_start_ns),
        actor: actor(&record.actor),
        inbound: sock::named(record.inbound_cookie, record.inbound_inode),
    }
}

pub(super) fn exit(record: &Exit) -> Fact {
    Fact::Exit { status: ExitStatus::from_wait(record.status) }
}

pub(super) fn exec_failed(record: &ExecFailed) -> Fact {
    Fact::ExecFailed { errno: record.errno, mntns: some(record.mntns) }
}

pub(super) fn signalled(record: &Signalled) -> Fact {
    Fact::Signalled(Box::new(Signal {
        number: u8::try_from(record.signal & 0x7f).unwrap_or_default(),
        by: match record.sent_by {
            SENT_BY_PROCESS => SentBy::Process,
            SENT_FOR_MEMORY => SentBy::OutOfMemory,
            _ => SentBy::Kernel,
        },
        sender: some(record.sender_tgid).map(|tgid| TaskKey::from_ns(tgid, record.sender_start_ns)),
        comm: name(&record.sender_comm),
        uid: (record.sender_uid != u32::MAX).then_some(record.sender_uid),
    }))
}

/// A name of the kernel's, without the padding.
fn name(comm: &[u8; 16]) -> RawText {
    comm.split(|byte| *byte == 0).next().unwrap_or_default().into()
}

pub(super) fn info(record: &Process) -> ProcessInfo {
    let mut argv: Vec<RawText> = record.argv.as_bytes().split(|byte| *byte == 0).map(RawText::from).collect();
    // Every string ends with NUL, so the last piece is empty unless the arguments were truncated.
    if argv.last().is_some_and(RawText::is_empty) {
        argv.pop();
    }
    ProcessInfo {
        comm: name(&record.comm),
        argv,
        argv_truncated: record.argv.truncated != 0,
        exe: None,
        parent: some(record.parent_tgid).map(|tgid| TaskKey::from_ns(tgid, record.parent_start_ns)),
        uid: (record.uid != u32::MAX).then_some(record.uid),
        login_uid: (record.login_uid != u32::MAX).then_some(record.login_uid),
        tty: None,
        netns: some(record.netns),
        mntns: some(record.mntns),
        userns: None,
        cgroup: None,
        program: None,
        stdin: None,
        watched: WatchClass::from_number(record.class).map(WatchAs::from),
    }
}

impl From<WatchClass> for WatchAs {
    fn from(class: WatchClass) -> Self {
        match class {
            WatchClass::Endpoint => Self::Endpoint,
            WatchClass::Daemon => Self::Daemon,
            WatchClass::RuntimeChild => Self::RuntimeChild,
            WatchClass::InContainer => Self::InContainer,
        }
    }
}
