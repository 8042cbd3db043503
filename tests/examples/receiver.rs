//! An OTLP receiver for `cargo xtask bench`. Prints its address. When its standard input ends, it prints the numbers of spans, log
//! records and metrics that it has got.

use std::{
    error::Error,
    io::{Write as _, stdin, stdout},
};

use execpath_tests::receiver::Receiver;

fn main() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start();
    writeln!(stdout(), "{}", receiver.address)?;
    stdout().flush()?;
    std::io::copy(&mut stdin(), &mut std::io::sink())?;
    let received = receiver.received();
    let (spans, logs, metrics) = (received.spans.len(), received.logs.len(), received.metrics.len());
    Ok(writeln!(stdout(), "{spans} {logs} {metrics}")?)
}
