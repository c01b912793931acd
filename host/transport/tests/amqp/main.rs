//! An AMQP broker's queues keep the contract, as far as the protocol goes; and what a broker
//! suffers.

mod contract;
mod trouble;
