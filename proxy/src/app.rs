//! The only file that knows both flows: build, bind, run, reload, stop.
