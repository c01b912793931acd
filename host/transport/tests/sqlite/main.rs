//! The embedded queue keeps the contract; and what only a file can suffer.

mod contract;
mod trouble;
