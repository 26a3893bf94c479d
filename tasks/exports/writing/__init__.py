"""What exports are made of: rows joined part by part, a card of them, and files written row by row."""
