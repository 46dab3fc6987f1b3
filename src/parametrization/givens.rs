/// placeholder
#[derive(Debug)]
pub struct Givens;
