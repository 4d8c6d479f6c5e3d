//! Making a program that fails shorter, whatever it is made of.

/// Drops steps, in ever smaller pieces, while the program still fails; `fails` tells at which step.
pub(crate) fn shrink<T: Clone>(mut program: Vec<T>, fails: impl Fn(&[T]) -> Option<usize>) -> Vec<T> {
    let mut piece = program.len() / 2;
    while piece > 0 {
        let mut from = 0;
        while from < program.len() {
            let mut shorter = program.clone();
            shorter.drain(from..(from + piece).min(program.len()));
            match fails(&shorter) {
                Some(at) => {
                    shorter.truncate(at + 1);
                    program = shorter;
                }
                None => from += piece,
            }
        }
        piece /= 2;
    }
    program
}
