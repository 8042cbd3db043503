//! The command line: messages, exit codes, help. No privilege, no cluster.

mod help;
mod messages;
mod pipes;
