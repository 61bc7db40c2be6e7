"""SCPI: sessions over sockets and VISA, its codec, polled records. Shared by SCPI instruments."""
