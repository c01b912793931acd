//! An AMQP broker's queues keep the contract, as far as the protocol goes; and what a broker
//! suffers.

#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

mod contract;
mod full;
mod trouble;
