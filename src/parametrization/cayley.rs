/// placeholder
#[derive(Debug)]
pub struct Cayley;
