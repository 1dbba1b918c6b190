//! How many block requests are on the way at once: more while that moves more, fewer when the server throttles.
