//! `struct task_struct` and structures that it points to.

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs,
};
use tracer_common::{Config, Offsets};

use super::{config, has, offset, pointer, read};
use crate::emit::About;

/// kernel: include/linux/sched.h:struct task_struct
#[derive(Clone, Copy)]
pub struct Task(pub u64);

impl Task {
    /// kernel: kernel/trace/bpf_trace.c:bpf_get_current_task. Its variant with a typed result (Linux 5.11) serves
    /// [`Task::current_registers`] alone.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: no argument; the kernel returns the running task.
        Self(unsafe { bpf_get_current_task() })
    }

    /// Address of the running task's saved user registers; 0 if their place is unknown.
    ///
    /// kernel: kernel/trace/bpf_trace.c:bpf_task_pt_regs; without it arch/x86/include/asm/processor.h:task_pt_regs
    #[inline(always)]
    pub fn current_registers() -> u64 {
        if has(Config::TASK_REGISTERS) {
            // SAFETY: the task comes from the helper; the result is read through a checking helper.
            return unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
        }
        let at = config!(registers_at);
        if at == Offsets::ABSENT {
            return 0;
        }
        pointer(Self::current().0, offset!(task_stack)).map_or(0, |stack| stack + u64::from(at))
    }

    #[inline(always)]
    pub fn tgid(self) -> Option<u32> {
        read(self.0, offset!(task_tgid))
    }

    /// `group_leader->start_boottime`: the same for every thread, and the value in /proc/PID/stat.
    #[inline(always)]
    pub fn start_ns(self) -> u64 {
        pointer(self.0, offset!(task_group_leader))
            .and_then(|leader| read(leader, offset!(task_start_boottime)))
            .unwrap_or(0)
    }

    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        pointer(self.0, offset!(task_real_parent)).map(Self)
    }

    #[inline(always)]
    pub fn uid(self) -> u32 {
        pointer(self.0, offset!(task_cred)).and_then(|cred| read(cred, offset!(cred_uid))).unwrap_or(u32::MAX)
    }

    /// `u32::MAX` without a login, or if the kernel has no audit.
    #[inline(always)]
    pub fn login_uid(self) -> u32 {
        read(self.0, offset!(task_loginuid)).unwrap_or(u32::MAX)
    }

    #[inline(always)]
    pub fn netns(self) -> u32 {
        pointer(self.0, offset!(task_nsproxy))
            .and_then(|nsproxy| pointer(nsproxy, offset!(nsproxy_net_ns)))
            .and_then(|net| read(net, offset!(net_inum)))
            .unwrap_or(0)
    }

    #[inline(always)]
    pub fn mntns(self) -> u32 {
        pointer(self.0, offset!(task_nsproxy))
            .and_then(|nsproxy| pointer(nsproxy, offset!(nsproxy_mnt_ns)))
            .and_then(|mnt| read(mnt, offset!(mnt_ns_inum)))
            .unwrap_or(0)
    }

    /// Start and end of the argument strings in the process's own memory.
    #[inline(always)]
    pub fn arguments(self) -> Option<(u64, u64)> {
        let mm = pointer(self.0, offset!(task_mm))?;
        Some((read(mm, offset!(mm_arg_start))?, read(mm, offset!(mm_arg_end))?))
    }

    /// Wait status after the last thread has ended; `None` before.
    ///
    /// kernel: kernel/exit.c:do_exit counts `signal->live` down and sets `exit_code` before the tracepoint;
    /// kernel/signal.c:do_group_exit leaves the code of the whole group in `group_exit_code`.
    #[inline(always)]
    pub fn group_exit(self) -> Option<u32> {
        /// include/linux/sched/signal.h:SIGNAL_GROUP_EXIT
        const SIGNAL_GROUP_EXIT: u32 = 4;
        let signal = pointer(self.0, offset!(task_signal))?;
        if read::<i32>(signal, offset!(signal_live))? > 0 {
            return None;
        }
        if read::<u32>(signal, offset!(signal_flags)).unwrap_or(0) & SIGNAL_GROUP_EXIT != 0 {
            return read(signal, offset!(signal_group_exit_code));
        }
        // Without that flag, threads end one by one (kernels before synchronize_group_exit). wait(2) then returns the
        // leader's code (kernel/exit.c:wait_task_zombie), not that of the last thread.
        read(pointer(self.0, offset!(task_group_leader))?, offset!(task_exit_code))
    }

    #[inline(always)]
    pub fn files(self) -> Option<u64> {
        pointer(self.0, offset!(task_files))
    }
}

/// Process id of the running task, in the initial pid namespace.
#[inline(always)]
pub fn current_tgid() -> u32 {
    // SAFETY: no argument.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

/// Process and thread id of the running task in one word: the key of its pending calls.
#[inline(always)]
pub fn current_pid_tgid() -> u64 {
    // SAFETY: no argument.
    unsafe { bpf_get_current_pid_tgid() }
}

/// The running task as the subject of a record.
#[inline(always)]
pub fn about_current() -> About {
    let both = current_pid_tgid();
    About { tgid: (both >> 32) as u32, tid: both as u32, start_ns: Task::current().start_ns() }
}
