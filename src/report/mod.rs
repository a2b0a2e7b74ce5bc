//! Pictures of results. What is shown is computed elsewhere; here it is only drawn, to bytes.

mod draw;
pub mod page;
pub mod plot;
