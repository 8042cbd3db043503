//! The command line: messages, exit codes, help. Needs neither privileges nor a cluster.

mod agent;
mod confinement;
mod demo;
mod files;
mod help;
mod hostile;
mod messages;
mod pipes;
mod privileges;
mod readme;
mod run;
