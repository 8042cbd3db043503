//! Scenarios through the correlator, and laws that hold for every one of them.

mod laws;
mod run;
