//! As much of the crate `integration_tests_sv2` as its program `mining_device` needs.

#[path = "source/mining_device/lib/mining_device/mod.rs"]
pub mod mining_device;

/// What the device takes from a module that is not here.
pub mod utils {
    /// Between two attempts to connect.
    pub const CONNECT_RETRY_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
}
