"""What a teacher's tokens cost: a run's own price, a person's file, published prices; in this order (DESIGN 4)."""
