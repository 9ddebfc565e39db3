//! With Linux in the machine.
