"""The demo: a CRM and an ERP on throwaway servers, people who write to both, and the real command line that keeps them in agreement."""
