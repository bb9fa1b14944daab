"""Evidence and book of the RoDPO companion, made with `rodpo_lite`."""
