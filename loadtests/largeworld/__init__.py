"""A clusterset as large as one agent may meet: its layout, its API servers, and one real agent in it."""
