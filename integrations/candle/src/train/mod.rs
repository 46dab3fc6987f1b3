//! Training: one step, the order of examples, and the loop around them.

mod optimiser;
mod order;
mod trainer;

pub use optimiser::Optimiser;
pub use order::Order;
pub use trainer::{End, Event, Score, Settings, Task, Trainer};
