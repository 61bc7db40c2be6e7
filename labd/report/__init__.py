"""What becomes of results afterwards: pictures, exports, re-scoring."""
