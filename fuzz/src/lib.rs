//! What the fuzz targets do with their input. Each function panics when a rule is broken.

pub mod cutter;
pub mod template_reply;
pub mod v1_decode;
pub mod v1_session;
pub mod v2_decode;
pub mod v2_frame;
pub mod v2_handshake;
pub mod v2_session;
