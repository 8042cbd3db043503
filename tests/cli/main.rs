//! The command line: messages, exit codes, help. No privilege, no cluster.

mod demo;
mod files;
mod help;
mod hostile;
mod messages;
mod pipes;
mod privileges;
mod readme;
