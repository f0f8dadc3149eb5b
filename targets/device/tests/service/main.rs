//! The service, used as its clients and its operator would: a real process, real sockets.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod device;
#[cfg(all(test, feature = "wgpu"))]
mod gpu;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod meters;
#[cfg(test)]
mod trust;
