//! Hashes of rotated vectors from an independent program (numpy, written after the definition in `papilio::random`).

/// For seed 42 and coordinates from Generator::new(9), uniform less a half: n; FNV-1a of Qx in f32, of the inverse of that, and both
/// in f64. A number that changes here breaks what users have stored.
#[rustfmt::skip]
pub(crate) const HASHES: [(usize, [u64; 4]); 24] = [
    (1, [0x6a6fc3b890ef0a82, 0x6a6fc3b890ef0a82, 0x9acb180e31b5ec91, 0x9acb180e31b5ec91]),
    (2, [0xffc0cfd159f18c78, 0xfe668ebe1c88cd6e, 0x94a8f2eeddc5de76, 0x13247bd0f523630e]),
    (3, [0x408b12d12e69e17a, 0x948ec9cba6df7550, 0x29b6d66b5566169d, 0x62ceb112ad6b91bd]),
    (5, [0x2a951091c871de0e, 0xd82c55918d71c1bc, 0x7449624cba3d58de, 0xbe1ee767625b42c1]),
    (8, [0xd8410f954de966d7, 0x984a35c4ed79ce9d, 0xb10ae6abafb18822, 0x2b7dd0717d19d53b]),
    (15, [0xacf4bf5c26bb745a, 0x9478d9f61027593b, 0x199449c6e62be120, 0x67f3e362cb2432ff]),
    (16, [0xc6f8be834af4ee3d, 0xd6a58d37c03db3d2, 0x71290500af758859, 0x259efc6f69eb7fdc]),
    (31, [0x9838239bfd427b9a, 0x4dd6636008cbfcb1, 0x8f54ca1dc0d0aaab, 0xd9714e39ad4bf944]),
    (64, [0xdacc78f0e72b2ae3, 0x2d20a3b03c6844f0, 0xa6382ae3f2b137ea, 0xd4f78cf19ae3625a]),
    (100, [0x3ebeea598f94a95d, 0x6ff151505814cf10, 0xc94a42fcbd2626de, 0xc0cbb75528f78483]),
    (128, [0x620f304249d0eef0, 0x21d27809b5049525, 0x69c1fddbe55730d6, 0xdeaa75f408a52327]),
    (200, [0x3c0a2041317f62a3, 0xfb674ba5eb8f9cf4, 0x13b2c437cdeb5198, 0x0ae93d81c0695f91]),
    (257, [0xce5be35144e5f86f, 0x8096a04acd91314d, 0x8fb17cd23925980f, 0x26fad75b56b4b613]),
    (384, [0x2247a3964632056d, 0xe0d4f67ffae18be1, 0x4692907d1e501ae6, 0x1bc652eab1267a91]),
    (513, [0x6c23d1ed35d311e1, 0xa9c35ddccc6c976c, 0xb30d0455d1faa8eb, 0xfb0037d9a8a12333]),
    (768, [0x2d5a67b6a22607be, 0xd8a54e00c57deaa9, 0x7a2bedc1a7251277, 0x673c1756b27445be]),
    (960, [0xfa44a289dd0dd974, 0x16316f29916822d3, 0xf8dd185a8d636e79, 0xd0febcf4fcdcc636]),
    (1000, [0x7ba5b9e6d0322bcb, 0x3bffb6fd7df21600, 0x1f4b0f97bb2ba21d, 0x1c543eacf82aef69]),
    (1024, [0x8e2315db32750c21, 0xb47ae8a48405b329, 0xeca605e4a0dd22f2, 0x94d5bd5e2269beec]),
    (1536, [0x5a4cd8c323bf3a16, 0xbb47831e4eee4bae, 0xaa641cd95ed96b2f, 0xe01e96f46a4fbda6]),
    (3072, [0x1ddd149a1e21aa94, 0x73c7fbd71d25fe62, 0x1b9998c668c13d63, 0xbd61b2a71b2a5f86]),
    (4096, [0x897b49a7ef58e2b4, 0x1c38bac3b9480a94, 0x0a94405c0a7b2bd8, 0xe63711e8cedfae00]),
    (4097, [0x65add23082833712, 0xdd40f68b224f7578, 0x1ede83b25cb0d3a7, 0x08a71956780b73b6]),
    (10000, [0xf3c80c636bbd07ee, 0xa83c511aaf42390a, 0xeca43ddc1b0c1d0a, 0xab9fe4ca9aa427d0]),
];
