"""Raw data set -> manifest -> faces -> LMDB; handcrafted features -> LMDB. Knows nothing of nets."""
