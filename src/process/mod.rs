//! One child process seen from its parent.
