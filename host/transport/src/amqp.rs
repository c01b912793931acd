//! stub
use crate::*;
pub struct Amqp;
impl Amqp { pub fn open(uri: &Uri, _: &Options) -> Result<crate::localmem::LocalMem, TransportError> { Err(uri.unknown()) } }
