//! Metrics of all sessions: findings and reports become series, whose number is bounded. Knows no format and no socket.

mod fold;
mod series;
pub mod table;

pub use self::{
    fold::{Fold, Observed},
    series::{Labels, Series, Value},
    table::{FAMILIES, Family, Shape, Values},
};
