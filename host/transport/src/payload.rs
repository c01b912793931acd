//! A task's payload: the text of a JSON object, written as the original writes it.
